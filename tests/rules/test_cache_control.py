"""Cache-Control of answers and requests. RFC 9111 §1.2.2, §4.2.1, §5.2, §5.4."""

from collections.abc import Mapping
from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.rules.cache_control import (
    FOREVER_S,
    RequestDirectives,
    ResponseDirectives,
    delta_seconds,
    parse_request,
    parse_response,
)

SAYS_NOTHING = ResponseDirectives()
Said = Mapping[str, object]

# Every response directive in its right form. RFC 9111 §5.2.2, RFC 5861, RFC 8246.
RESPONSE_DIRECTIVES: list[tuple[str, bytes | None, Said]] = [
    ("§5.2", None, {}),
    ("§5.2", b"", {}),
    ("§5.2.2.1", b"max-age=60", {"max_age": 60}),
    ("§5.2.2.2", b"must-revalidate", {"must_revalidate": True, "shared": True}),
    ("§5.2.2.3", b"must-understand", {"must_understand": True}),
    ("§5.2.2.4", b"no-cache", {"no_cache": True}),
    ("§5.2.2.4", b'no-cache="Set-Cookie"', {"no_cache_fields": frozenset({b"set-cookie"})}),
    ("§5.2.2.5", b"no-store", {"no_store": True}),
    ("§5.2.2.6", b"no-transform", {"no_transform": True}),
    ("§5.2.2.7", b"private", {"private": True}),
    ("§5.2.2.7", b'private="A, b ,c"', {"private_fields": frozenset({b"a", b"b", b"c"})}),
    ("§5.2.2.8", b"proxy-revalidate", {"proxy_revalidate": True}),
    ("§5.2.2.9", b"public", {"public": True, "shared": True}),
    ("§5.2.2.10", b"s-maxage=10", {"s_maxage": 10, "shared": True}),
    ("RFC 5861 §3", b"stale-while-revalidate=5", {"stale_while_revalidate": 5}),
    ("RFC 5861 §4", b"stale-if-error=6", {"stale_if_error": 6}),
    ("RFC 8246 §2", b"immutable", {"immutable": True}),
    ("RFC 8246 §2", b"immutable=1, immutable", {"immutable": True}),
]

# Odd, and well-formed all the same, or made so by what recipients ought to accept.
LENIENT: list[tuple[str, bytes | None, Said]] = [
    ("§5.2 case", b"Max-Age=60, NO-STORE", {"max_age": 60, "no_store": True}),
    ("§5.2 both forms", b'max-age="60"', {"max_age": 60}),
    ("§5.2 both forms", b"private=a", {"private_fields": frozenset({b"a"})}),
    ("§5.2 both forms", b'max-age="6\\0"', {"max_age": 60}),
    ("RFC 9110 §5.6.1", b" ,, max-age=60 \t,,\tno-store ,", {"max_age": 60, "no_store": True}),
    ("RFC 9110 §5.6.1", b'private=",a,,b"', {"private_fields": frozenset({b"a", b"b"})}),
    ("§1.2.2 zeros", b"max-age=" + b"0" * 9000 + b"60", {"max_age": 60}),
    ("§1.2.2 too large", b"max-age=2147483649", {"max_age": FOREVER_S}),
    ("§1.2.2 too large", b"max-age=" + b"9" * 9000, {"max_age": FOREVER_S}),
    ("§5.2.3 unknown", b"max-age=60, foo", {"max_age": 60, "extensions": {b"foo": None}}),
    (
        "§5.2.3 community",
        b'private, community="UCI"',
        {"private": True, "extensions": {b"community": b"UCI"}},
    ),
    (
        "§5.2.3 quoted",
        b'ext="a, no-store, \\"public", ext=2',
        {"extensions": {b"ext": b'a, no-store, "public'}},
    ),
    (
        "§5.2.2.7 twice",
        b"private=a, private=b",
        {"private_fields": frozenset({b"a", b"b"})},
    ),
]

# Malformed: never fresher, never more storable. RFC 9111 §4.2.1.
STRICT: list[tuple[str, bytes | None, Said]] = [
    *(
        ("§4.2.1 no number", b"max-age" + value, {"max_age": 0})
        for value in (
            b"", b"=", b"=-1", b"=1.5", b"=+5", b"=0x10", b"=1e3", b"=abc", b'=""', b'="-1"',
            b"='60'", b" = 60", b"= 60", b" =60", b" 60", b"=60 70", b"=60;", b'="60', b"=60\xff",
            b"=\xb2",
        )
    ),
    ("§4.2.1 no number", b"s-maxage=x, max-age=60", {"s_maxage": 0, "max_age": 60}),
    ("§4.2.1 no number", b"stale-while-revalidate", {"stale_while_revalidate": 0}),
    ("§4.2.1 no number", b"stale-if-error=1.5", {"stale_if_error": 0}),
    ("§4.2.1 two of them", b"max-age=60, max-age=5", {"max_age": 5}),
    ("§4.2.1 two of them", b"max-age=5, max-age=60", {"max_age": 5}),
    ("§4.2.1 two of them", b"max-age=60, max-age=x", {"max_age": 0}),
    ("§4.2.1 two of them", b"s-maxage=9, s-maxage=7", {"s_maxage": 7, "shared": True}),
    ("§5.2 no argument", b"no-store=1", {"no_store": True}),
    ("§5.2 no argument", b'must-revalidate="x"', {"must_revalidate": True}),
    ("§5.2 no argument", b"public=1, must-understand=1", {}),
    ("semicolons", b"max-age=60; no-store", {"max_age": 0, "no_store": True}),
    ("semicolons", b"public; max-age=60", {"max_age": 0}),
    ("two words", b"no-store now", {"no_store": True}),
    ("two words", b"public now, immutable now, must-understand now", {}),
    ("two words", b"must-revalidate now", {"must_revalidate": True}),
    ("open quote", b'foo="bar, no-store, public', {"no_store": True}),
    ("open quote", b'foo="bar, max-age=60', {"max_age": 0}),
    ("open quote", b'max-age=60, private="a', {"max_age": 60, "private": True}),
    ("open quote", b'foo="\\"', {}),
    ("quotes", b'a="x"y="z, q", max-age=60', {"max_age": 60}),
    ("quotes", b'"no-store", max-age=60', {"max_age": 60, "no_store": True}),
    ("no names", b'no-cache="", private=" , "', {"no_cache": True, "private": True}),
    ("no names", b'no-cache="a b", private="a:"', {"no_cache": True, "private": True}),
    ("misread without", b'no-cache="Content-Encoding"', {"no_cache": True}),
    ("misread without", b'private="a, vary"', {"private": True}),
    (
        "both forms",
        b'no-cache, no-cache="a"',
        {"no_cache": True, "no_cache_fields": frozenset({b"a"})},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("section", "value", "said"), RESPONSE_DIRECTIVES + LENIENT + STRICT)
def test_what_an_answer_says(section: str, value: bytes | None, said: Said) -> None:
    assert parse_response(value) == ResponseDirectives(**said), section  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "pragma", "no_cache"),
    [
        (None, b"no-cache", True),
        (b"", b"No-Cache", True),
        (None, b"foo=1, no-cache", True),
        (None, b"foo", False),
        (None, b"", False),
        (None, None, False),
        (b"max-age=60", b"no-cache", False),
    ],
)
def test_pragma_counts_where_there_is_no_cache_control(
    value: bytes | None, pragma: bytes | None, no_cache: bool
) -> None:
    """RFC 9111 §5.4."""
    assert parse_request(value, pragma).no_cache == no_cache
    assert parse_response(value, pragma).no_cache == no_cache


REQUEST_DIRECTIVES: list[tuple[str, bytes | None, Said]] = [
    ("§5.2.1", None, {}),
    ("§5.2.1", b"", {}),
    ("§5.2.1.1", b"max-age=60", {"max_age": 60}),
    ("§5.2.1.2", b"max-stale=60", {"max_stale": 60}),
    ("§5.2.1.2 any age", b"max-stale", {"max_stale": inf}),
    ("§5.2.1.3", b"min-fresh=60", {"min_fresh": 60}),
    ("§5.2.1.4", b"no-cache", {"no_cache": True}),
    ("§5.2.1.5", b"no-store", {"no_store": True}),
    ("§5.2.1.6", b"no-transform", {"no_transform": True}),
    ("§5.2.1.7", b"only-if-cached", {"only_if_cached": True}),
    ("RFC 5861 §4", b"stale-if-error=9", {"stale_if_error": 9}),
    ("RFC 8246 §2", b"immutable", {}),
    ("§5.2.3 unknown", b"foo, bar=1", {}),
    ("case", b"Max-Age=1, No-Cache", {"max_age": 1, "no_cache": True}),
    ("quoted", b'max-stale="5"', {"max_stale": 5}),
    ("too large", b"max-stale=99999999999", {"max_stale": FOREVER_S}),
    ("two of them", b"max-age=9, max-age=5", {"max_age": 5}),
    ("two of them", b"max-stale=9, max-stale, max-stale=5", {"max_stale": 5}),
    ("two of them", b"min-fresh=5, min-fresh=9, min-fresh=7", {"min_fresh": 9}),
    ("two of them", b"stale-if-error=9, stale-if-error=5", {"stale_if_error": 5}),
    ("no number", b"max-age", {"max_age": 0}),
    ("no number", b"max-age=-1", {"max_age": 0}),
    ("no number", b"max-stale=x", {}),
    ("no number", b"max-stale=", {}),
    ("no number", b"max-stale now", {}),
    ("no number", b"min-fresh", {"min_fresh": FOREVER_S}),
    ("no number", b"stale-if-error=x", {}),
    ("broken", b"no-store; no-cache", {"no_store": True, "no_cache": True}),
    ("broken", b"only-if-cached now", {}),
    ("an argument", b"no-cache=1, only-if-cached=1", {"no_cache": True, "only_if_cached": True}),
]  # fmt: skip


@pytest.mark.parametrize(("section", "value", "said"), REQUEST_DIRECTIVES)
def test_what_a_request_says(section: str, value: bytes | None, said: Said) -> None:
    assert parse_request(value) == RequestDirectives(**said), section  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("argument", "seconds"),
    [
        (b"0", 0),
        (b"00", 0),
        (b"2147483647", FOREVER_S - 1),
        (b"2147483648", FOREVER_S),
        (b"4294967297", FOREVER_S),
        (None, None),
        (b"", None),
        (b" 1", None),
        (b"\xb2", None),
    ],
)
def test_delta_seconds(argument: bytes | None, seconds: int | None) -> None:
    """RFC 9111 §1.2.2."""
    assert delta_seconds(argument) == seconds


def is_no_laxer(one: ResponseDirectives, other: ResponseDirectives) -> bool:
    """Say whether `one` allows nothing that `other` does not."""
    restrictive = ("no_store", "no_cache", "private", "must_revalidate", "proxy_revalidate")
    permissive = ("public", "must_understand", "shared")
    windows = ("max_age", "s_maxage", "stale_while_revalidate", "stale_if_error")
    return (
        all(getattr(one, name) >= getattr(other, name) for name in restrictive)
        and all(getattr(one, name) <= getattr(other, name) for name in permissive)
        and one.private_fields >= other.private_fields
        and one.no_cache_fields >= other.no_cache_fields
        and all(
            getattr(other, name) is None or getattr(one, name) <= getattr(other, name)
            for name in windows
        )
    )


SOUND = [value for _, value, _ in RESPONSE_DIRECTIVES + LENIENT if value]
BROKEN = [value for section, value, _ in STRICT if value and not section.startswith("§4.2.1 two")]


@given(st.lists(st.sampled_from(SOUND), max_size=4), st.sampled_from(BROKEN), st.booleans())
def test_something_malformed_beside_it_never_makes_an_answer_fresher(
    sound: list[bytes], broken: bytes, first: bool
) -> None:
    """An open quote takes in what stands behind it, so what is malformed comes last or alone."""
    alone = parse_response(b", ".join(sound))
    if first and b'"' not in broken:
        mixed = parse_response(b", ".join([broken, *sound]))
    else:
        mixed = parse_response(b", ".join([*sound, broken]))
    assert is_no_laxer(mixed, alone)


@given(st.lists(st.sampled_from(SOUND), max_size=6))
def test_the_order_of_the_directives_says_nothing(values: list[bytes]) -> None:
    one = parse_response(b", ".join(values))
    other = parse_response(b",".join(reversed(values)))
    assert is_no_laxer(one, other)
    assert is_no_laxer(other, one)


@given(
    st.lists(st.sampled_from([value for value in SOUND if b'"' not in value]), min_size=1),
    st.integers(min_value=0, max_value=400),
)
def test_no_open_quote_hides_a_restriction(values: list[bytes], position: int) -> None:
    """A quote set anywhere: what another reader could find after it still restricts."""
    value = b", ".join(values)
    hidden = value[position:].lower()
    said = parse_response(value[:position] + b'a="' + hidden)
    assert said.no_store or b"no-store" not in hidden
    assert said.max_age == 0 or b"max-age" not in hidden
    assert said.s_maxage == 0 or b"s-maxage" not in hidden


@given(
    st.binary(max_size=200)
    | st.text(alphabet='max-ge=1"\\, \t;no-str', max_size=60).map(str.encode)
)
@example(b'"' * 7)
@example(b"\\")
def test_no_value_raises(value: bytes) -> None:
    for directives in (parse_response(value), parse_response(None, value)):
        for seconds in (directives.max_age, directives.s_maxage, directives.stale_if_error):
            assert seconds is None or 0 <= seconds <= FOREVER_S
    for request in (parse_request(value), parse_request(None, value)):
        assert request.max_age is None or 0 <= request.max_age <= FOREVER_S
