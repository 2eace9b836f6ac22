"""Tags of answers: Cache-Tag, Surrogate-Key and xkey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields
from proxy.rules.cache_tags import LONGEST_TAG_BYTES, MOST_TAGS, TAG_FIELDS, tags_fit, tags_of


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ([], ()),
        ([(b"Cache-Tag", b"")], ()),
        ([(b"Cache-Tag", b"a")], (b"a",)),
        ([(b"Cache-Tag", b"a, b c ,,d\t")], (b"a", b"b c", b"d")),
        ([(b"Cache-Tag", b"a"), (b"cache-tag", b"b,a")], (b"a", b"b")),
        ([(b"Surrogate-Key", b" a  b\tc,d ")], (b"a", b"b", b"c,d")),
        ([(b"Surrogate-Key", b"a"), (b"Surrogate-Key", b"b")], (b"a", b"b")),
        ([(b"xkey", b"a b"), (b"XKey", b"a c")], (b"a", b"b", b"c")),
        ([(b"xkey", b"x"), (b"Surrogate-Key", b"s"), (b"Cache-Tag", b"c")], (b"c", b"s", b"x")),
        ([(b"Cache-Tag", b"A, a")], (b"A", b"a")),
        ([(b"Tag", b"a"), (b"Edge-Cache-Tag", b"b")], ()),
    ],
)
def test_tags_are_read_from_three_fields(lines: list[FieldLine], tags: tuple[bytes, ...]) -> None:
    assert tags_of(Fields(lines)) == tags
    assert tags_fit(Fields(lines))


def test_more_tags_than_are_kept_do_not_fit() -> None:
    most = b" ".join(b"%d" % number for number in range(MOST_TAGS))
    assert tags_fit(Fields([(b"xkey", most), (b"Cache-Tag", b"0,1,2")]))
    more = Fields([(b"xkey", most), (b"Cache-Tag", b"one more")])
    assert len(tags_of(more)) == MOST_TAGS
    assert not tags_fit(more)


def test_a_tag_that_is_too_long_does_not_fit() -> None:
    longest = b"x" * LONGEST_TAG_BYTES
    assert tags_of(Fields([(b"xkey", longest)])) == (longest,)
    assert tags_fit(Fields([(b"xkey", longest)]))
    assert tags_of(Fields([(b"xkey", longest + b"x y")])) == (b"y",)
    assert not tags_fit(Fields([(b"xkey", longest + b"x y")]))


@given(st.lists(st.tuples(st.sampled_from(sorted(TAG_FIELDS)), st.binary(max_size=40))))
def test_no_field_raises_or_gives_an_empty_tag(lines: list[FieldLine]) -> None:
    tags = tags_of(Fields(lines))
    assert len(set(tags)) == len(tags)
    assert all(tags)
