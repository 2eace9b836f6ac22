"""Where in proxy.toml the keys stand that rules name."""

from pathlib import Path

import pytest

from proxy.config.locate import Source, locate
from proxy.rules.reasons import Reason
from proxy.tools.findings import Explanation, Places

TEXT = """\
[[route]]
path = "/*"
[route.cache]
min_ttl = "1s"
key = { query = { sort = true } }
"""


@pytest.fixture
def places() -> Places:
    source = Source(file=Path("/x/proxy.toml"), name="proxy.toml", text=TEXT, lines=locate(TEXT))
    return Places(source, 0)


def test_a_key_that_is_there_has_its_line(places: Places) -> None:
    assert places.cache("min_ttl") == "proxy.toml:4 min_ttl"
    assert places.cache("key.query.sort") == "proxy.toml:5 key.query.sort"


def test_of_a_dotted_key_the_nearest_part_counts(places: Places) -> None:
    assert places.cache("key.cookies") == "proxy.toml:5 key.cookies"


def test_a_key_that_is_not_there_has_its_name(places: Places) -> None:
    assert places.cache("max_ttl") == "[route.cache] max_ttl"


def test_reasons_of_rules_get_lines_and_those_of_standards_stay(places: Places) -> None:
    assert places.reason(Reason("a", "b", "[route.cache] min_ttl")) == "proxy.toml:4 min_ttl"
    assert places.reason(Reason("a", "b", "RFC 9111 §3")) == "RFC 9111 §3"


def test_without_a_route_there_are_no_lines_of_one(places: Places) -> None:
    source = Source(file=Path("/x/proxy.toml"), name="p", text="", lines={})
    assert Places(source).route() == ""


def test_steps_collect_facts() -> None:
    told = Explanation(request="GET /", configuration="proxy.toml")
    told.step("Key", "k").add("a fact", "RFC", "quiet")
    assert [(fact.text, fact.source, fact.tone) for fact in told.steps[0].facts] == [
        ("a fact", "RFC", "quiet")
    ]
