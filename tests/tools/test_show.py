"""An explanation on the terminal."""

import pytest

from proxy.tools import show
from proxy.tools.findings import Explanation, Fact


@pytest.fixture
def told() -> Explanation:
    told = Explanation(request="GET http://h/[a]", configuration="/x/proxy.toml")
    step = told.step("Route", "/[a]/* → app", "proxy.toml:3", "good")
    step.add("never " * 40, "[route.cache] min_ttl", "bad")
    told.outcome = Fact(text="A [hit].", source="[files] memory", tone="good")
    return told


def test_text_in_brackets_is_shown_as_it_is(
    told: Explanation, capsys: pytest.CaptureFixture[str]
) -> None:
    show.show(told)
    shown = capsys.readouterr().out
    for text in ("GET http://h/[a]", "[route.cache] min_ttl", "A [hit].", "[files] memory"):
        assert text in shown


def test_what_does_not_fit_a_line_stays_in_its_column(
    told: Explanation, capsys: pytest.CaptureFixture[str]
) -> None:
    show.show(told)
    lines = [line for line in capsys.readouterr().out.splitlines() if "never" in line]
    assert len(lines) > 2
    assert len({line.index("never") for line in lines}) == 1
    assert max(map(len, lines)) <= show.PLAIN_WIDTH


def test_it_can_end_without_an_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    show.show(Explanation(request="GET http://h/", configuration="x"))
    assert "What would happen" not in capsys.readouterr().out


def test_programs_get_plain_values(told: Explanation) -> None:
    plain = show.plain(told)
    assert plain["steps"][0]["facts"][0]["source"] == "[route.cache] min_ttl"
    assert plain["outcome"]["tone"] == "good"
