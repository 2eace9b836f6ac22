"""CDN-Cache-Control and other targeted fields. RFC 9213."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields
from proxy.rules.cache_control import FOREVER_S, ResponseDirectives
from proxy.rules.cache_rule import CacheRule
from proxy.rules.targeted import governing_directives, targeted_directives

CDN = (b"cdn-cache-control",)
OURS_THEN_CDN = (b"proxyd-cache-control", b"cdn-cache-control")


def said(value: bytes) -> ResponseDirectives | None:
    return targeted_directives(Fields([(b"CDN-Cache-Control", value)]), CDN)


# RFC 9213 §2.1: which types a directive has, and that a value of another type is not used.
TYPES: list[tuple[bytes, dict[str, object]]] = [
    (b"max-age=60", {"max_age": 60}),
    (b"max-age=60;foo=bar; no-store", {"max_age": 60}),  # parameters are ignored
    (b"max-age=60, no-store, must-revalidate", {
        "max_age": 60, "no_store": True, "must_revalidate": True, "shared": True,
    }),
    (b'no-cache, private="a, B"', {"no_cache": True, "private_fields": frozenset({b"a", b"b"})}),
    (b"private, s-maxage=5", {"private": True, "s_maxage": 5, "shared": True}),
    (b"public, immutable, no-transform, proxy-revalidate, must-understand", {
        "public": True, "immutable": True, "no_transform": True, "proxy_revalidate": True,
        "must_understand": True, "shared": True,
    }),
    (b"stale-while-revalidate=5, stale-if-error=6", {
        "stale_while_revalidate": 5, "stale_if_error": 6,
    }),
    (b"none", {"extensions": {b"none": None}}),  # §3.1: there, and without any effect
    (b'x=5, y=tok, z="s", w=1.5', {
        "extensions": {b"x": b"5", b"y": b"tok", b"z": b"s", b"w": b"1.5"},
    }),
    (b"x=:YQ==:, y=(a b), z=@1", {}),
    (b"max-age=2147483649", {"max_age": FOREVER_S}),
    (b"max-age=1, max-age=7", {"max_age": 7}),  # the last of a key holds: RFC 9651 §4.2.2
    (b"max-age=7, max-age=1", {"max_age": 1}),
    (b"max-age", {"max_age": 0}),
    (b"max-age=-5", {"max_age": 0}),
    (b"max-age=60.0", {"max_age": 0}),
    (b'max-age="60"', {"max_age": 0}),
    (b"max-age=abc", {"max_age": 0}),
    (b"max-age=(60)", {"max_age": 0}),
    (b"max-age=@60", {"max_age": 0}),
    (b"max-age=?0", {}),
    (b"no-store=?0, private=?0", {}),
    (b"no-store=1, must-revalidate=(a)", {"no_store": True, "must_revalidate": True}),
    (b"private=a, no-cache=5", {"private": True, "no_cache": True}),
    (b"public=1, must-understand=(a)", {}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), TYPES)
def test_the_directives_of_a_targeted_field(value: bytes, expected: dict[str, object]) -> None:
    directives = ResponseDirectives(**expected, targeted=True)  # type: ignore[arg-type]
    assert said(value) == directives


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"   ",
        b"Max-Age=60",
        b"max-age=60,",
        b"max-age=60;",
        b"max-age = 60",
        b"max-age=9999999999999999",
        b"max-age=\xff",
        b'private="a',
        b"no-store, =",
    ],
)
def test_an_empty_or_invalid_field_is_as_if_absent(value: bytes) -> None:
    """RFC 9213 §2.1."""
    assert said(value) is None


LINES = list[FieldLine]


@pytest.mark.parametrize(
    ("lines", "targets", "max_age"),
    [
        ([], CDN, None),
        ([(b"Cache-Control", b"max-age=1")], CDN, 1),
        ([(b"Cache-Control", b"max-age=1"), (b"CDN-Cache-Control", b"max-age=2")], CDN, 2),
        ([(b"Cache-Control", b"no-store"), (b"CDN-Cache-Control", b"max-age=2")], CDN, 2),
        ([(b"Cache-Control", b"max-age=1"), (b"CDN-Cache-Control", b"max-age")], (), 1),
        ([(b"Cache-Control", b"max-age=1"), (b"CDN-Cache-Control", b"max-age=")], CDN, 1),
        ([(b"Cache-Control", b"max-age=1"), (b"CDN-Cache-Control", b"")], CDN, 1),
        ([(b"Cache-Control", b"max-age=1"), (b"Other-Cache-Control", b"max-age=2")], CDN, 1),
        ([(b"Cache-Control", b"max-age=1"), (b"CDN-Cache-Control", b"none")], CDN, None),
        (
            [(b"CDN-Cache-Control", b"max-age=1"), (b"Proxyd-Cache-Control", b"max-age=2")],
            OURS_THEN_CDN,
            2,
        ),
        (
            [(b"CDN-Cache-Control", b"max-age=1"), (b"Proxyd-Cache-Control", b"")],
            OURS_THEN_CDN,
            1,
        ),
        ([(b"CDN-Cache-Control", b"x"), (b"CDN-Cache-Control", b"max-age=3")], CDN, 3),
    ],
)
def test_the_first_target_with_a_valid_field_wins(
    lines: LINES, targets: tuple[bytes, ...], max_age: int | None
) -> None:
    """RFC 9213 §2.2."""
    directives = governing_directives(Fields(lines), CacheRule(targets=targets))
    assert directives.max_age == max_age
    assert not directives.no_store


def test_a_targeted_field_puts_expires_out_of_force() -> None:
    """RFC 9213 §2.2; `rules.freshness` reads it so."""
    targeted = governing_directives(Fields([(b"CDN-Cache-Control", b"none")]), CacheRule())
    assert targeted.targeted
    assert not governing_directives(Fields([(b"Cache-Control", b"none")]), CacheRule()).targeted


@pytest.mark.parametrize(
    ("lines", "ignore", "expected"),
    [
        ([(b"Cache-Control", b"no-store")], {b"cache-control"}, ResponseDirectives()),
        ([(b"Cache-Control", b"no-store")], {b"expires"}, ResponseDirectives(no_store=True)),
        ([(b"Pragma", b"no-cache")], set(), ResponseDirectives(no_cache=True)),
        ([(b"Pragma", b"no-cache")], {b"pragma"}, ResponseDirectives()),
        (
            [(b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=1")],
            {b"cache-control"},
            ResponseDirectives(no_cache=True),
        ),
        (
            [(b"CDN-Cache-Control", b"no-store"), (b"Cache-Control", b"max-age=1")],
            {b"cache-control"},
            ResponseDirectives(no_store=True, targeted=True),
        ),
    ],
)
def test_a_rule_may_ignore_cache_control_and_pragma(
    lines: LINES, ignore: set[bytes], expected: ResponseDirectives
) -> None:
    rule = CacheRule(ignore=frozenset(ignore))
    assert governing_directives(Fields(lines), rule) == expected


@given(st.binary(max_size=80) | st.text('amx-ge=1?.;"@:%( ),', max_size=40).map(str.encode))
def test_no_value_raises(value: bytes) -> None:
    directives = said(value)
    assert directives is None or directives.max_age is None or directives.max_age <= FOREVER_S


@given(st.integers(min_value=-(10**15) + 1, max_value=10**15 - 1))
def test_no_number_is_more_than_it_says(seconds: int) -> None:
    directives = said(b"max-age=%d" % seconds)
    assert directives is not None
    assert directives.max_age == min(max(seconds, 0), FOREVER_S)
