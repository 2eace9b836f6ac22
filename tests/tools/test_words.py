"""Numbers as people read them."""

import pytest

from proxy.tools.words import ago, clause, lasting, size, text


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (1e18, "909495 TiB")],
)
def test_sizes_have_a_unit(count: float, written: str) -> None:
    assert size(count) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (2.5, "2.5s"), (10.4, "10s"), (90, "1m 30s"), (-90, "-1m 30s")],
)
def test_durations_have_their_two_largest_units(seconds: float, written: str) -> None:
    assert lasting(seconds) == written


def test_the_past_and_the_future_are_told_apart() -> None:
    assert (ago(60), ago(-60)) == ("1m ago", "in 1m")


def test_a_sentence_can_be_a_clause() -> None:
    assert clause("The answer says public.") == "the answer says public"


def test_bytes_that_are_no_text_are_shown() -> None:
    assert text(b"a\xff") == "a\\xff"
