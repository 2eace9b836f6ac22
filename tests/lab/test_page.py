"""The lab's page in a real browser: drawn, quiet, by itself, with the numbers of the report."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Browser, Page

from proxy.lab.model import Figure, Report, Result, from_json
from proxy.lab.page import embedded, finding, render_html
from proxy.lab.table import number as written
from proxy.lab.table import parts
from tests.lab.browser import (
    check_numbers,
    check_pictures,
    needs_browser,
    opened,
    running_browser,
)

SAMPLE = from_json(Path(__file__).with_name("sample.json").read_bytes())
TITLES = {stack.key: stack.title for stack in SAMPLE.stacks}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(params=[("light", 1100), ("dark", 390), ("light", 390)])
def page(
    browser: Browser, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Page, list[str]]]:
    """Give the sample's page, and what it complained of or asked for."""
    file = tmp_path / "report.html"
    file.write_text(render_html(SAMPLE))
    with opened(browser, file, *request.param) as found:
        yield found


class TestInABrowser:
    pytestmark = [needs_browser, pytest.mark.once, pytest.mark.timeout(90)]  # noqa: RUF012

    def test_every_picture_is_drawn_and_nothing_is_asked_for(
        self, page: tuple[Page, list[str]]
    ) -> None:
        shown, said = page
        assert shown.locator(".picture").count() >= len(SAMPLE.experiments) - 1
        check_pictures(shown, len(SAMPLE.stacks))
        assert said == []

    def test_the_page_does_not_scroll_sideways(self, page: tuple[Page, list[str]]) -> None:
        shown, _ = page
        assert shown.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )

    def test_the_tables_say_what_the_report_says(self, page: tuple[Page, list[str]]) -> None:
        shown, _ = page
        check_numbers(shown, SAMPLE)

    def test_a_journey_is_drawn_with_the_parts_that_the_report_has(
        self, page: tuple[Page, list[str]]
    ) -> None:
        shown, _ = page
        journey = next(one for one in SAMPLE.experiments if one.picture == "journey")
        section = shown.locator("section[aria-labelledby=journey]")
        assert section.locator(".legend b").all_text_contents() == parts(journey)
        drawn = section.locator("svg rect title").all_text_contents()
        expected = [
            f"{span.name} ({span.layer}): {written(span.duration_ms)} ms"
            for result in journey.results
            for span in result.journey
        ]
        assert drawn == expected
        colours = section.locator("svg rect").evaluate_all(
            "all => all.map(one => getComputedStyle(one).fill)"
        )
        # A part has the colour of its legend, and each its own.
        assert len(set(colours)) == len(parts(journey))
        scale = [
            (box["x"], box["width"])
            for box in (section.locator("svg rect").nth(at).bounding_box() for at in range(5))
            if box is not None
        ]
        waitress = journey.results[0].journey
        whole = waitress[-1].start_ms + waitress[-1].duration_ms
        width = scale[-1][0] + scale[-1][1] - scale[0][0]
        for (_, drawn_width), span in zip(scale, waitress, strict=True):
            assert drawn_width == pytest.approx(width * span.duration_ms / whole, abs=0.5)
        for result in journey.results:
            for span in result.journey:
                cell = f"tr[data-journey={result.stack}] td[data-part='{span.name}']"
                assert section.locator(cell).text_content() == written(span.duration_ms)


def test_what_an_application_is_named_cannot_become_a_script() -> None:
    evil = "</script><script>alert(1)</script>"
    text = msgspec.json.encode(SAMPLE).decode().replace("the lab's own", evil)
    report = msgspec.json.decode(text, type=Report)
    assert evil not in render_html(report)
    assert msgspec.json.decode(str(embedded(report)), type=Report) == report


def test_a_finding_names_best_and_worst_with_their_numbers() -> None:
    dynamic = next(one for one in SAMPLE.experiments if one.key == "dynamic")
    figures = {one.stack: one.figures["cpu"].median for one in dynamic.results if one.figures}
    best, worst = min(figures, key=figures.__getitem__), max(figures, key=figures.__getitem__)
    said = finding(dynamic, TITLES)
    assert f"({TITLES[best]}) to" in said
    assert f"({TITLES[worst]})." in said
    assert f"{figures[best]:.0f}" in said


def test_a_finding_names_those_of_whom_nobody_got_an_answer() -> None:
    dynamic = SAMPLE.experiments[0]
    silent = [
        Result(stack=stack, outcome="failed", requests=13, answers={"timed out": 13})
        for stack in ("waitress", "proxyd")
    ]
    said = finding(replace(dynamic, results=silent), TITLES)
    assert said == f"Nobody was answered by {TITLES['waitress']} and {TITLES['proxyd']}."
    some = replace(silent[0], answers={"timed out": 12, "good": 1})
    assert finding(replace(dynamic, results=[some]), TITLES) == ""


def test_stacks_that_are_equally_good_are_named_in_the_order_of_the_report() -> None:
    cpu = {"waitress": 100.0, "nginx": 20.0, "proxyd": 20.0, "proxyd-cache": 20.0}
    results = [
        Result(
            stack=stack,
            outcome="measured",
            figures={"cpu": Figure(median=value, least=value, most=value, rounds=[value])},
        )
        for stack, value in cpu.items()
    ]
    last, *first = (TITLES[stack] for stack in cpu)
    said = finding(replace(SAMPLE.experiments[0], results=results), TITLES)
    assert f"µs ({first[0]}, {first[1]} and {first[2]}) to " in said
    assert said.endswith(f"µs ({last}).")
