"""Heads on disk: what is read is what was written, and no entry grows younger on the way."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import codec
from proxy.cache.entry import Entry
from proxy.cache.head import Head, MarkerHead, Now
from proxy.cache.store import Marker
from proxy.message import Fields
from proxy.rules.ranges import Span
from tests.cache.making import entry

BOOT = bytes(16)
OTHER = b"1" * 16

COPIED = [name for name in Entry.__slots__ if name not in {"hits", "response", "response_second"}]

lines = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)
seconds = st.floats(-1e9, 1e9)
entries = st.builds(
    entry,
    key=st.binary(max_size=50),
    body=st.binary(max_size=100),
    lines=lines,
    variant=st.binary(max_size=20),
    vary=st.lists(st.binary(max_size=9), max_size=3).map(tuple),
    status=st.integers(200, 599),
    reason=st.binary(max_size=20),
    trailers=st.none() | lines.map(Fields),
    born_at=seconds,
    fresh_until=seconds,
    keep_until=seconds | st.just(math.inf),
    no_cache=st.booleans(),
    must_revalidate=st.booleans(),
    tags=st.lists(st.binary(max_size=9), max_size=3).map(tuple),
    purge_seq=st.integers(0, 2**64 - 1),
    complete=st.booleans(),
    ranges=st.lists(st.builds(Span, st.integers(0, 9), st.integers(9, 99)), max_size=2).map(tuple),
)


def head_of(one: Entry, now: Now) -> Head:
    head = codec.decode(codec.encode(one, now))
    assert isinstance(head, Head)
    return head


def through(one: Entry, saved: Now, loaded: Now) -> Entry:
    return codec.entry_of(head_of(one, saved), one.body, loaded)


def test_each_thing_stands_where_the_head_has_it() -> None:
    now = Now(1.7e9, 50.0, BOOT)
    one = entry(b"key", b"content", ((b"A", b"b"),))
    numbers = [
        "status",
        "request_at",
        "response_at",
        "born_at",
        "fresh_until",
        "swr_until",
        "sie_until",
        "keep_until",
        "purge_seq",
        "lifetime_id",
        "storing_id",
    ]
    for value, name in enumerate(numbers, start=200):
        setattr(one, name, value if isinstance(getattr(one, name), int) else float(value))
    one.variant, one.vary, one.reason, one.tags = b"variant", (b"vary",), b"reason", (b"tag",)
    one.trailers, one.ranges = Fields([(b"C", b"d")]), (Span(3, 5),)
    for flag in ("no_cache", "must_revalidate", "complete"):
        for other in ("no_cache", "must_revalidate", "complete"):
            setattr(one, other, other == flag)
        head = head_of(one, now)
        assert head.wall(now.monotonic) == now.wall
        assert head.boot == now.boot
        assert head.size_bytes == one.size_bytes
        assert head.lines == one.fields.lines
        assert head.trailers == [(b"C", b"d")]
        same = ["key", "variant", "vary", "reason", "tags", "ranges", *numbers]
        for name in [*same, "no_cache", "must_revalidate", "complete"]:
            assert getattr(head, name) == getattr(one, name), name


@given(entries)
def test_decoding_undoes_encoding(one: Entry) -> None:
    now = Now(1.7e9, 50.0, BOOT)
    again = through(one, now, now)
    for name in COPIED:
        assert getattr(again, name) == getattr(one, name), name


def test_a_marker_is_what_was_written() -> None:
    lists = ((b"accept-encoding",), (b"a", b"b"), ())
    assert codec.decode(codec.encode_marker(Marker(b"k", lists))) == MarkerHead(b"k", lists)


def test_what_is_of_another_make_is_refused() -> None:
    for data in (
        b"",
        b"\x00",
        msgspec.msgpack.encode([3, b"k"]),
        msgspec.msgpack.encode([1, b"k"]),
    ):
        with pytest.raises(msgspec.DecodeError):
            codec.decode(data)


def test_the_length_of_content_that_came_later_can_be_told() -> None:
    now = Now(1.7e9, 50.0, BOOT)
    head = codec.decode(codec.encode(entry(body=b""), now, 12345))
    assert isinstance(head, Head)
    assert head.size_bytes == 12345


def test_times_are_exact_in_the_same_boot_whatever_the_wall_clock_did() -> None:
    for wall in (1.7e9, 0.0, 9e9):
        again = through(entry(), Now(1.7e9, 120.0, BOOT), Now(wall, 150.0, BOOT))
        assert (again.born_at, again.fresh_until, again.no_cache) == (100.0, 160.0, False)


def test_time_between_two_boots_is_what_the_wall_clock_says() -> None:
    # 20 s old when saved at 120; 30 s later, at 7 of a new boot, it is 50 s old.
    again = through(entry(), Now(1.7e9 + 10, 120.0, BOOT), Now(1.7e9 + 40, 7.0, OTHER))
    assert 7.0 - again.born_at == pytest.approx(50)
    assert again.fresh_until - 7.0 == pytest.approx(10)
    assert again.swr_until - 7.0 == pytest.approx(20)
    assert again.sie_until - 7.0 == pytest.approx(50)
    assert again.keep_until - 7.0 == pytest.approx(850)
    assert not again.no_cache


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [
        (Now(1.7e9 + 10, 120.0, BOOT), Now(1.7e9 + 9, 7.0, OTHER)),  # the clock was set back
        (Now(1.7e9 + 10, 120.0, BOOT), Now(0.0, 7.0, OTHER)),  # a machine without one
        (Now(1.6e9, 120.0, BOOT), Now(1.65e9, 7.0, OTHER)),  # response_at lies in the future
        (Now(1.7e9 + 10, 120.0, BOOT), Now(1.7e9 + 9, 119.0, BOOT)),  # a boot that is another
    ],
)
def test_an_entry_of_unknown_age_must_be_validated(saved: Now, loaded: Now) -> None:
    again = through(entry(), saved, loaded)
    assert again.no_cache
    assert again.fresh_until <= loaded.monotonic
    assert again.swr_until <= loaded.monotonic
    assert again.sie_until <= loaded.monotonic
    assert loaded.monotonic - again.born_at >= 20 - 1


@given(
    saved_wall=st.floats(1.7e9, 1.8e9),
    saved_monotonic=st.floats(100, 1e6),
    wall=st.floats(0, 4e9),
    monotonic=st.floats(0, 2e6),
    same=st.booleans(),
)
def test_no_entry_is_fresh_for_longer_than_when_it_was_saved(
    saved_wall: float, saved_monotonic: float, wall: float, monotonic: float, same: bool
) -> None:
    one = entry(fresh_until=2e6)
    saved, loaded = (
        Now(saved_wall, saved_monotonic, BOOT),
        Now(wall, monotonic, BOOT if same else OTHER),
    )
    again = through(one, saved, loaded)
    left_s = max(one.fresh_until - saved_monotonic, 0)
    assert again.fresh_until - monotonic <= left_s + 1e-6
    assert monotonic - again.born_at >= saved_monotonic - one.born_at - 1e-6
    keep_until, fresh_until = codec.wall_times(head_of(one, saved), loaded)
    assert keep_until == pytest.approx(wall + again.keep_until - monotonic, abs=1e-6)
    assert fresh_until == pytest.approx(wall + again.fresh_until - monotonic, abs=1e-6)


def test_times_can_be_shown_as_dates() -> None:
    head = head_of(entry(), Now(1.7e9 + 10, 120.0, BOOT))
    assert head.wall(head.fresh_until) == 1.7e9 + 50
