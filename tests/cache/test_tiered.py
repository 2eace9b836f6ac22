"""Memory over disk: what is found where, and what purges say of it."""

from pathlib import Path

import pytest

from proxy.cache.disk import DiskStore
from proxy.cache.entry import Entry
from proxy.cache.memory import MemoryStore, Variants
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.cache.store import LATER, Later, Marker
from proxy.cache.tiered import NoPurges, Tiered, newer
from tests.cache.making import entry
from tests.cache.test_flights import Asking, Flight

KEY = b"http://a/"
LANGUAGE = (b"accept-language",)
COOKIE = (b"cookie",)


class Disk:
    """A store that holds what a test puts there, by key and variant; the rest is never asked."""

    def __init__(self) -> None:
        self.held: dict[tuple[bytes, bytes], Entry | Marker | Later] = {}
        self.done: list[str] = []

    def hold(self, found: Entry) -> Entry:
        self.held[found.key, found.variant] = found
        return found

    def read_now(self, key: bytes, variant: bytes = b"") -> Entry | Marker | Later | None:
        return self.held.get((key, variant))

    async def read(self, key: bytes, variant: bytes = b"") -> Entry | Marker | None:
        found = self.held.get((key, variant))
        assert not isinstance(found, Later)
        return found

    def put(self, entry: Entry) -> bool:
        self.done.append("put")
        return True

    def begin(self, entry: Entry, drained: object) -> None:
        self.done.append("begin")

    def drop(self, key: bytes, variant: bytes = b"") -> bool:
        self.done.append("drop")
        return True

    def touch(self, entry: Entry) -> None:
        self.done.append("touch")


def tiered(disk: Disk | DiskStore | None = None, purges: Purges | None = None) -> Tiered:
    return Tiered(MemoryStore(1 << 20), disk, purges or NoPurges(), 1 << 18)


def varied(names: tuple[bytes, ...], value: bytes, response_at: float) -> Entry:
    variant = Asking(value).variant(names)
    return entry(KEY, vary=names, variant=variant, response_at=response_at)


@pytest.mark.parametrize("first", [0, 1])
def test_the_newest_that_fits_is_chosen(first: int) -> None:
    cache = tiered()
    old, new = varied(LANGUAGE, b"x", 1.0), varied(COOKIE, b"x", 2.0)
    for one in ((old, new), (new, old))[first]:
        cache.keep(one)
    held = cache.get(KEY)
    assert isinstance(held, Variants)
    assert cache.chosen(held, Asking(b"x")) is new
    assert cache.chosen(held, Asking(b"y")) is None


@pytest.mark.parametrize("first", [0, 1])
async def test_the_newest_that_fits_is_read_from_the_disk(first: int) -> None:
    disk = Disk()
    disk.held[KEY, b""] = Marker(KEY, ((LANGUAGE, COOKIE), (COOKIE, LANGUAGE))[first])
    disk.hold(varied(LANGUAGE, b"x", 1.0))
    new = disk.hold(varied(COOKIE, b"x", 2.0))
    assert tiered(disk).read_now(KEY, Asking(b"x")) is new
    assert await tiered(disk).read(KEY, Asking(b"x")) is new
    assert tiered(disk).read_now(KEY, Asking(b"y")) is None
    assert await tiered(disk).read(KEY, Asking(b"y")) is None


async def test_what_is_found_on_the_disk_is_in_memory_afterwards() -> None:
    disk = Disk()
    held = disk.hold(entry(KEY))
    cache = tiered(disk)
    assert cache.read_now(KEY, Asking()) is held
    assert cache.get(KEY) is held


async def test_without_a_disk_nothing_is_on_it() -> None:
    cache = tiered()
    assert cache.read_now(KEY, Asking()) is None
    assert await cache.read(KEY, Asking()) is None
    assert cache.begin(entry(KEY), lambda: None) is None
    held = entry(KEY)
    cache.keep(held)
    cache.touch(held, 5.0)
    cache.remove(held)
    assert cache.get(KEY) is None


def test_the_disk_is_told_what_memory_is() -> None:
    disk = Disk()
    cache = tiered(disk)
    held = entry(KEY)
    cache.keep(held)
    cache.touch(held, 5.0)
    cache.begin(held, lambda: None)
    cache.remove(held)
    assert disk.done == ["put", "touch", "begin", "drop"]


@pytest.mark.parametrize("of_a_variant", [False, True])
def test_what_needs_a_thread_says_so(of_a_variant: bool) -> None:
    disk = Disk()
    if of_a_variant:
        disk.held[KEY, b""] = Marker(KEY, (COOKIE,))
        disk.held[KEY, b"cookie=1"] = LATER
    else:
        disk.held[KEY, b""] = LATER
    assert tiered(disk).read_now(KEY, Asking()) is LATER


@pytest.mark.parametrize("names", [(), COOKIE])
async def test_what_came_while_a_thread_read_is_newer(names: tuple[bytes, ...]) -> None:
    disk = Disk()
    disk.held[KEY, b""] = Marker(KEY, (names,))
    old = varied(names, b"1", 1.0)
    disk.hold(old)
    if names:
        cache = tiered(disk)
    else:
        disk.held[KEY, b""] = old
        cache = tiered(disk)
    new = varied(names, b"1", 2.0)
    cache.keep(new)
    assert await cache.read(KEY, Asking()) is new
    cache.memory.remove(new)
    cache.keep(varied(names, b"1", 0.5))
    assert await cache.read(KEY, Asking()) is old
    assert old in cache.memory.entries()


async def test_what_is_told_apart_otherwise_is_no_newer_one() -> None:
    disk = Disk()
    held = disk.hold(entry(KEY, response_at=1.0))
    cache = tiered(disk)
    cache.keep(varied(COOKIE, b"1", 2.0))
    assert await cache.read(KEY, Asking()) is held


def test_of_two_the_newer_is_the_one_that_came_last() -> None:
    old, new = entry(response_at=1.0), entry(response_at=2.0)
    assert newer(old, None) is old
    assert newer(old, new) is newer(new, old) is new


def test_a_purge_is_seen_without_being_done(tmp_path: Path) -> None:
    purges = Purges(tmp_path)
    cache = tiered(purges=purges)
    held = entry(KEY, purge_seq=purges.current())
    assert not cache.purged_since(held)
    purges.add(Kind.URL, Verdict.HARD, b"http://a/elsewhere")
    assert not cache.purged_since(held)
    purges.add(Kind.URL, Verdict.SOFT, KEY)
    assert cache.purged_since(held)
    assert cache.purged_since(held)
    purges.close()


def test_what_is_purged_is_gone_from_memory(tmp_path: Path) -> None:
    purges = Purges(tmp_path)
    cache = tiered(purges=purges)
    held = entry(KEY, purge_seq=purges.current())
    cache.keep(held)
    purges.add(Kind.URL, Verdict.SOFT, KEY)
    assert cache.unpurged(held, 120.0)
    purges.add(Kind.URL, Verdict.HARD, KEY)
    assert not cache.unpurged(held, 120.0)
    assert cache.get(KEY) is None
    purges.close()


def test_where_nothing_can_be_purged_nothing_is() -> None:
    none = NoPurges()
    none.add(Kind.ALL, Verdict.HARD)
    none.invalidate(KEY)
    none.invalidate_tag(b"t")
    assert none.current() == 0
    assert none.apply(entry(), 0.0)
    assert none.verdict(entry()) is Verdict.NOTHING


class Varying(Flight):
    def vary(self) -> tuple[bytes, ...]:
        return LANGUAGE


def test_which_variant_is_expected() -> None:
    cache = tiered()
    who = Asking()
    assert cache.expected(KEY, who) == ((), b"")
    cache.flights.add(Varying(KEY))
    cache.flights.add(Flight(KEY))
    assert cache.expected(KEY, who) == (LANGUAGE, b"accept-language=1")
    cache.keep(varied(COOKIE, b"1", 1.0))
    assert cache.expected(KEY, who) == (COOKIE, b"cookie=1")
    cache.flights.mark(KEY, COOKIE, who, 0.0)
    assert cache.expected(KEY, who) == (COOKIE, b"cookie=1")
    cache.flights.mark(KEY, LANGUAGE, who, 0.0)
    assert cache.expected(KEY, who)[0] == (b"accept-language", b"cookie")


def test_all_of_one_key_are_siblings() -> None:
    cache = tiered()
    one = entry(KEY)
    cache.keep(one)
    assert cache.siblings(one) == [one]
    two = varied(COOKIE, b"1", 1.0)
    cache.keep(two)
    assert cache.siblings(one) == [one, two]
    assert cache.siblings(two) == [two, one]


def test_only_what_is_complete_is_whole() -> None:
    cache = tiered()
    part = entry(KEY, complete=False)
    assert not cache.holds_whole(part)
    cache.memory.put(part)
    assert not cache.holds_whole(part)
    cache.memory.put(entry(KEY))
    assert cache.holds_whole(part)
    assert not cache.holds_whole(varied(COOKIE, b"1", 1.0))
