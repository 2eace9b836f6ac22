"""The lab's page in a real browser, and what has to be true of it whatever report it shows."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from proxy.lab.model import Report
from proxy.lab.table import cell_text

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), None)
# Of all shapes: rectangles, strokes and words each count as drawn.
SHAPES = "svg => svg.querySelectorAll('rect, line, text').length"

needs_browser = pytest.mark.skipif(
    FOUND is None, reason=f"there is no browser here ({', '.join(NAMES)})"
)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start the browser that is installed."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=FOUND, args=arguments)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, file: Path, scheme: str, width: int
) -> Iterator[tuple[Page, list[str]]]:
    """Open a page; yield it, and what it complained of or asked for."""
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 800},
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.append(asked.url))
    page.goto(file.as_uri())
    page.wait_for_selector(".picture svg")
    said.remove(file.as_uri())
    yield page, said
    context.close()


def check_pictures(page: Page, stacks: int) -> None:
    """Check that each picture is drawn, with something of every stack in it."""
    boxes = page.locator(".picture")
    for number in range(boxes.count()):
        svg = boxes.nth(number).locator("svg")
        assert svg.evaluate(SHAPES) > stacks
        box = svg.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 50


def check_numbers(page: Page, report: Report) -> None:
    """Check that the tables say what the report says."""
    for experiment in report.experiments:
        shown = {metric.key for metric in experiment.metrics}
        for result in experiment.results:
            for key in result.figures.keys() & shown:
                place = (
                    f"section[aria-labelledby={experiment.key}] tr[data-stack={result.stack}] "
                    f"td[data-metric={key}]"
                )
                assert page.locator(place).text_content() == cell_text(result.figures[key])
