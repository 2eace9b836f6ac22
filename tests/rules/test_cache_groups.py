"""Cache-Groups and Cache-Group-Invalidation. RFC 9875."""

import pytest

from proxy.message import Fields
from proxy.rules.cache_groups import MOST_GROUPS, group_tags, invalidated_tags

HERE = b"https://h"


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b'"a"', (b'group "a" of https://h',)),
        (b'"a", "b", "a"', (b'group "a" of https://h', b'group "b" of https://h')),
        (b'"a";x=1', (b'group "a" of https://h',)),  # §2: parameters are ignored
        (b'"a b"', (b'group "a b" of https://h',)),
        (b"a", ()),  # a Token is no String
        (b'"a", 1, ("b")', (b'group "a" of https://h',)),
        (b'"a', ()),  # RFC 9651 §4.2: one error, and it is absent
        (b"", ()),
    ],
)
def test_the_groups_of_an_answer(value: bytes, tags: tuple[bytes, ...]) -> None:
    assert group_tags(Fields([(b"Cache-Groups", value)]), HERE) == tags


def test_lines_are_one_list() -> None:
    lines = [(b"Cache-Groups", b'"a"'), (b"Cache-Groups", b'"b"')]
    assert len(group_tags(Fields(lines), HERE)) == 2


def test_no_field_is_no_group() -> None:
    assert group_tags(Fields(), HERE) == ()


def test_groups_are_of_an_origin() -> None:
    fields = Fields([(b"Cache-Groups", b'"a"')])
    assert group_tags(fields, HERE) != group_tags(fields, b"http://h")


def test_a_bounded_number_of_them_counts() -> None:
    value = b", ".join(b'"%d"' % number for number in range(MOST_GROUPS + 9))
    assert len(group_tags(Fields([(b"Cache-Groups", value)]), HERE)) == MOST_GROUPS
    assert group_tags(Fields([(b"Cache-Groups", b'"%b"' % (b"x" * 300))]), HERE) == ()


@pytest.mark.parametrize(
    ("method", "status", "invalidates"),
    [
        (b"POST", 200, True),
        (b"POST", 303, True),
        (b"FROBNICATE", 204, True),
        (b"POST", 404, False),
        (b"POST", 500, False),
        (b"GET", 200, False),  # §3: "MUST be ignored" on safe methods
        (b"HEAD", 200, False),
    ],
)
def test_what_changes_something_invalidates(method: bytes, status: int, invalidates: bool) -> None:
    fields = Fields([(b"Cache-Group-Invalidation", b'"a"')])
    expected = (b'group "a" of https://h',) if invalidates else ()
    assert invalidated_tags(method, status, fields, HERE) == expected
