"""Entries in memory: found with one look-up, counted in bytes, and least used go first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import memory
from proxy.cache.entry import Entry
from proxy.cache.memory import MAX_LISTS, MemoryStore, Variants
from proxy.message import Fields
from tests.cache.making import entry

LARGE = 100_000_000


def found(store: MemoryStore, key: bytes) -> list[Entry]:
    held = store.get(key)
    return held.entries() if isinstance(held, Variants) else [held] if held else []


def test_an_entry_without_vary_is_found_by_its_key_alone() -> None:
    store, kept = MemoryStore(LARGE), entry(b"k")
    assert store.put(kept)
    assert store.get(b"k") is kept
    assert store.get(b"other") is None
    assert len(store) == 1
    assert store.entries() == [kept]
    assert store.cost_bytes == kept.cost_bytes


def test_a_later_entry_takes_the_place_of_an_earlier() -> None:
    store = MemoryStore(LARGE)
    store.put(entry(b"k", b"1" * 1000))
    later = entry(b"k", b"2")
    store.put(later)
    assert store.get(b"k") is later
    assert store.cost_bytes == later.cost_bytes


def test_an_entry_put_again_is_counted_as_it_is_now() -> None:
    store, kept = MemoryStore(LARGE), entry(b"k")
    store.put(kept)
    kept.set_fields(Fields([(b"ETag", b'"2"'), (b"X", b"y" * 500)]))
    store.put(kept)
    assert store.cost_bytes == kept.cost_bytes
    assert kept.etag == b'"2"'
    assert len(store) == 1


def test_variants_are_found_under_their_lists_of_names_the_newest_first() -> None:
    store = MemoryStore(LARGE)
    plain = entry(b"k")
    german = entry(b"k", vary=(b"accept-language",), variant=b"de")
    french = entry(b"k", vary=(b"accept-language",), variant=b"fr")
    coded = entry(b"k", vary=(b"accept-encoding",), variant=b"br")
    for each in (plain, german, coded, french):
        store.put(each)
    held = store.get(b"k")
    assert isinstance(held, Variants)
    assert held.lists == [
        ((b"accept-language",), {b"de": german, b"fr": french}),
        ((b"accept-encoding",), {b"br": coded}),
        ((), {b"": plain}),
    ]
    assert store.cost_bytes == sum(each.cost_bytes for each in (plain, german, coded, french))


def test_a_variant_takes_the_place_of_the_same_variant() -> None:
    store = MemoryStore(LARGE)
    store.put(entry(b"k", b"1" * 1000, vary=(b"a",), variant=b"x"))
    later = entry(b"k", b"2", vary=(b"a",), variant=b"x")
    store.put(later)
    assert found(store, b"k") == [later]
    assert store.cost_bytes == later.cost_bytes


def test_lists_of_names_and_variants_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_VARIANTS", 2)
    store = MemoryStore(LARGE)
    for number in range(MAX_LISTS + 1):
        store.put(entry(b"k", vary=(b"n%d" % number,), variant=b"v"))
    for variant in (b"1", b"2", b"3"):
        store.put(entry(b"k", vary=(b"n5",), variant=variant))
    held = store.get(b"k")
    assert isinstance(held, Variants)
    assert [names for names, _ in held.lists] == [
        (b"n%d" % number,) for number in (5, 8, 7, 6, 4, 3, 2, 1)
    ]
    assert list(held.lists[0][1]) == [b"2", b"3"]
    assert len(store) == MAX_LISTS - 1 + 2
    assert store.cost_bytes == sum(each.cost_bytes for each in store.entries())


def test_the_entry_used_least_recently_goes_first() -> None:
    gone: list[Entry] = []
    entries = [entry(b"%d" % number) for number in range(4)]
    store = MemoryStore(3 * entries[0].cost_bytes, gone.append)
    for each in entries[:3]:
        store.put(each)
    store.touch(entries[0], now=7.0)
    store.put(entries[3])
    assert gone == [entries[1]]
    assert store.get(b"1") is None
    assert entries[0].touch_at == 7.0 + memory.TOUCH_S


def test_what_is_larger_than_the_memory_is_not_kept_and_leaves_nothing_old_behind() -> None:
    store = MemoryStore(5000)
    store.put(entry(b"k"))
    store.put(entry(b"v", vary=(b"a",), variant=b"x"))
    assert not store.put(entry(b"k", bytes(5000)))
    assert not store.put(entry(b"v", bytes(5000), vary=(b"a",), variant=b"x"))
    assert store.get(b"k") is None
    assert store.get(b"v") is None
    assert store.cost_bytes == 0


def test_one_put_evicts_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_EVICTIONS", 4)
    small = [entry(b"%d" % number) for number in range(10)]
    store = MemoryStore(10 * small[0].cost_bytes)
    for each in small:
        store.put(each)
    large = entry(b"large", bytes(7 * small[0].cost_bytes))
    assert not store.put(large)
    assert len(store) == 6
    assert store.get(b"large") is None
    assert store.put(large)
    assert store.get(b"large") is large


def test_dropping_takes_one_variant_or_all() -> None:
    store = MemoryStore(LARGE)
    store.put(entry(b"k", vary=(b"a",), variant=b"x"))
    store.put(entry(b"k", vary=(b"a",), variant=b"y"))
    store.put(entry(b"k", vary=(b"b",), variant=b"y"))
    store.put(entry(b"other"))
    assert store.drop(b"k", b"nobody") == 0
    assert store.drop(b"k", b"x") == 1
    assert store.drop(b"k") == 2
    assert store.drop(b"k") == 0
    assert store.get(b"k") is None
    assert store.drop(b"other") == 1
    assert store.cost_bytes == 0


def test_removing_an_entry_that_was_replaced_leaves_the_new_one() -> None:
    store = MemoryStore(LARGE)
    for vary, variant in (((), b""), ((b"a",), b"x")):
        old, new = [entry(b"k", vary=vary, variant=variant) for _ in range(2)]
        store.put(old)
        store.put(new)
        store.remove(old)
        assert new in found(store, b"k")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"1", b"2", b"3"]),
            st.sampled_from([(), (b"a",), (b"b",)]),
            st.sampled_from([b"x", b"y"]),
            st.integers(0, 3000),
        ),
        max_size=40,
    )
)
def test_what_is_counted_is_what_can_be_found(
    puts: list[tuple[bytes, tuple[bytes, ...], bytes, int]],
) -> None:
    store = MemoryStore(12_000)
    for key, vary, variant, size in puts:
        store.put(entry(key, bytes(size), vary=vary, variant=variant if vary else b""))
        all_found = [each for name in (b"1", b"2", b"3") for each in found(store, name)]
        assert set(all_found) == set(store.entries())
        assert store.cost_bytes == sum(each.cost_bytes for each in all_found) <= 12_000


def test_an_entry_says_what_it_is_in_a_debugger() -> None:
    assert repr(entry(b"k", b"12", variant=b"de")) == "<Entry 200 b'k' b'de' 2 bytes>"


def test_the_cost_of_an_entry_counts_all_its_parts() -> None:
    plain = entry(b"k", b"").cost_bytes
    assert entry(b"k" * 101, b"").cost_bytes == plain + 100
    assert entry(b"k", bytes(5000)).cost_bytes == plain + 5000
    assert entry(b"k", b"", tags=(b"abc",)).cost_bytes > plain + 3
    assert entry(b"k", b"", trailers=Fields([(b"a", b"b")])).cost_bytes > plain + 2
