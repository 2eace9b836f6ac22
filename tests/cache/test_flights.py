"""What is under way, and what could not be kept."""

import pytest

from proxy.cache import flights
from proxy.cache.flights import LOOK_S, MARK_S, Flights


class Flight:
    def __init__(self, key: bytes) -> None:
        self.key = key

    def vary(self) -> tuple[bytes, ...]:
        return ()


class Asking:
    """A request whose fields are all `value`."""

    def __init__(self, value: bytes = b"1") -> None:
        self.value = value

    def variant(self, names: tuple[bytes, ...]) -> bytes:
        return b" ".join(name + b"=" + self.value for name in names)


WHO = Asking()
COOKIE = (b"cookie",)


def test_flights_are_found_by_key_the_newest_last() -> None:
    held: Flights[Flight] = Flights()
    one, two, other = Flight(b"k"), Flight(b"k"), Flight(b"other")
    for flight in (one, two, other):
        held.add(flight)
    assert held.of(b"k") == [one, two]
    assert len(held) == 3
    held.remove(one)
    held.remove(one)
    assert held.of(b"k") == [two]
    held.remove(two)
    held.remove(two)
    assert held.of(b"k") == []
    assert len(held) == 1


def test_a_mark_ends_by_itself() -> None:
    held: Flights[Flight] = Flights()
    assert not held.marked(b"k", WHO, 0.0)
    held.mark(b"k", (), WHO, 10.0)
    assert held.marked(b"k", WHO, 10.0)
    assert held.marked(b"k", WHO, 9.9 + MARK_S)
    assert not held.marked(b"k", WHO, 10.0 + MARK_S)


def test_a_mark_is_for_one_variant() -> None:
    held: Flights[Flight] = Flights()
    mine, yours = Asking(b"mine"), Asking(b"yours")
    held.mark(b"k", COOKIE, mine, 0.0)
    assert held.names(b"k") == COOKIE
    assert held.names(b"other") == ()
    assert held.marked(b"k", mine, 0.0)
    assert not held.marked(b"k", yours, 0.0)
    held.unmark(b"k", yours)
    assert held.marked(b"k", mine, 0.0)
    held.unmark(b"k", mine)
    assert not held.marked(b"k", mine, 0.0)
    held.unmark(b"k", mine)
    held.unmark(b"other", mine)


def test_what_is_marked_is_looked_at_now_and_then() -> None:
    held: Flights[Flight] = Flights()
    for look in (held.worth_a_look, held.not_on_disk):
        assert not look(b"k", WHO, 0.0)
    held.mark(b"k", (), WHO, 0.0)
    assert not held.worth_a_look(b"k", WHO, 0.0)
    assert held.not_on_disk(b"k", WHO, 0.0)
    assert held.worth_a_look(b"k", WHO, LOOK_S)
    assert not held.not_on_disk(b"k", WHO, LOOK_S)
    assert not held.worth_a_look(b"k", WHO, LOOK_S + 0.1)
    assert held.not_on_disk(b"k", WHO, LOOK_S + 0.1)


def test_marks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "MAX_MARKS", 2)
    held: Flights[Flight] = Flights()
    for key in (b"a", b"b", b"b", b"c"):
        held.mark(key, (), WHO, 0.0)
    assert [held.marked(key, WHO, 0.0) for key in (b"a", b"b", b"c")] == [False, True, True]
