"""Preconditions, entity tags and If-Range. RFC 9110 §8.8.3, §13."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import Fields
from proxy.rules.conditional import (
    Outcome,
    evaluate,
    if_range_holds,
    parse_etags,
    strong_match,
    weak_match,
)
from proxy.rules.dates import format_date

ETAG = b'"abc"'
MODIFIED = 784_111_777
NOW = MODIFIED + 1000
SAME = format_date(MODIFIED)
EARLIER = format_date(MODIFIED - 1)
LATER = format_date(MODIFIED + 1)

GO = Outcome.PROCEED
NOT_MODIFIED = Outcome.NOT_MODIFIED
FAILED = Outcome.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b'"a"', [b'"a"']),
        (b'""', [b'""']),
        (b'W/"a"', [b'W/"a"']),
        (b'"a", W/"b" ,"c"', [b'"a"', b'W/"b"', b'"c"']),
        (b'"a,b", "c"', [b'"a,b"', b'"c"']),
        (b', ,"a",, "b",', [b'"a"', b'"b"']),
        (b'"a\xff"', [b'"a\xff"']),
        (b"", []),
        (b"abc", None),
        (b'"a" "b"', None),
        (b'"a', None),
        (b'w/"a"', None),
        (b'W/ "a"', None),
        (b'"a b"', None),
        (b'"a", x', None),
        (b'*, "a"', None),
    ],
)
def test_a_list_of_entity_tags(value: bytes, tags: list[bytes] | None) -> None:
    assert parse_etags(value) == tags


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [
        (b'W/"1"', b'W/"1"', False, True),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', False, True),
        (b'"1"', b'"1"', True, True),
    ],
)
def test_comparison_as_in_the_table_of_8_8_3_2(
    one: bytes, other: bytes, strong: bool, weak: bool
) -> None:
    assert strong_match(one, other) is strong
    assert strong_match(other, one) is strong
    assert weak_match(one, other) is weak


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT"])
@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        # §13.1.1
        ([(b"If-Match", b'"abc"')], GO),
        ([(b"If-Match", b'"x", "abc"')], GO),
        ([(b"If-Match", b'"x"'), (b"If-Match", b'"abc"')], GO),
        ([(b"If-Match", b"*")], GO),
        ([(b"If-Match", b'"x"')], FAILED),
        ([(b"If-Match", b'W/"abc"')], FAILED),
        ([(b"If-Match", b"abc")], FAILED),
        ([(b"If-Match", b"")], FAILED),
        # §13.1.4
        ([(b"If-Unmodified-Since", SAME)], GO),
        ([(b"If-Unmodified-Since", LATER)], GO),
        ([(b"If-Unmodified-Since", EARLIER)], FAILED),
        ([(b"If-Unmodified-Since", b"yesterday")], GO),
        # §13.2.2: If-Match hides If-Unmodified-Since, true or false
        ([(b"If-Match", b'"abc"'), (b"If-Unmodified-Since", EARLIER)], GO),
        ([(b"If-Match", b'"x"'), (b"If-Unmodified-Since", SAME)], FAILED),
        # and is asked before If-None-Match
        ([(b"If-Match", b'"x"'), (b"If-None-Match", b'"abc"')], FAILED),
    ],
)
def test_what_every_method_heeds(
    method: bytes, fields: list[tuple[bytes, bytes]], outcome: Outcome
) -> None:
    assert evaluate(method, Fields(fields), ETAG, MODIFIED, NOW) is outcome


@pytest.mark.parametrize(
    ("fields", "for_get", "for_put"),
    [
        # §13.1.2
        ([(b"If-None-Match", b'"abc"')], NOT_MODIFIED, FAILED),
        ([(b"If-None-Match", b'W/"abc"')], NOT_MODIFIED, FAILED),
        ([(b"If-None-Match", b'"x" , "abc"')], NOT_MODIFIED, FAILED),
        ([(b"If-None-Match", b"*")], NOT_MODIFIED, FAILED),
        ([(b"If-None-Match", b'"x"')], GO, GO),
        ([(b"If-None-Match", b"abc")], GO, GO),
        # §13.1.3
        ([(b"If-Modified-Since", SAME)], NOT_MODIFIED, GO),
        ([(b"If-Modified-Since", LATER)], NOT_MODIFIED, GO),
        ([(b"If-Modified-Since", EARLIER)], GO, GO),
        ([(b"If-Modified-Since", b"0")], GO, GO),
        # If-None-Match hides If-Modified-Since
        ([(b"If-None-Match", b'"x"'), (b"If-Modified-Since", SAME)], GO, GO),
        ([(b"If-None-Match", b'"abc"'), (b"If-Modified-Since", EARLIER)], NOT_MODIFIED, FAILED),
        # both halves: If-Match holds, then If-None-Match decides
        ([(b"If-Match", b'"abc"'), (b"If-None-Match", b'"abc"')], NOT_MODIFIED, FAILED),
        ([(b"If-Unmodified-Since", SAME), (b"If-Modified-Since", SAME)], NOT_MODIFIED, GO),
        ([], GO, GO),
    ],
)
def test_what_depends_on_the_method(
    fields: list[tuple[bytes, bytes]], for_get: Outcome, for_put: Outcome
) -> None:
    for method in (b"GET", b"HEAD"):
        assert evaluate(method, Fields(fields), ETAG, MODIFIED, NOW) is for_get
    assert evaluate(b"PUT", Fields(fields), ETAG, MODIFIED, NOW) is for_put


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ([(b"If-Match", b'"abc"')], FAILED),
        ([(b"If-Match", b"*")], GO),
        ([(b"If-None-Match", b'"abc"')], GO),
        ([(b"If-None-Match", b"*")], NOT_MODIFIED),
        ([(b"If-Modified-Since", LATER)], GO),
        ([(b"If-Unmodified-Since", EARLIER)], GO),
    ],
)
def test_a_representation_without_validators_is_neither_old_nor_new(
    fields: list[tuple[bytes, bytes]], outcome: Outcome
) -> None:
    assert evaluate(b"GET", Fields(fields), None, None, NOW) is outcome


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (b'"abc"', True),
        (b'"x"', False),
        (b'W/"abc"', False),
        (b'"abc", "x"', False),
        (SAME, True),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", True),
        (LATER, False),  # not the very date
        (EARLIER, False),
        (b"abc", False),
        (b"", False),
    ],
)
def test_if_range(value: bytes, holds: bool) -> None:
    assert if_range_holds(value, ETAG, MODIFIED, NOW) is holds


def test_if_range_takes_no_weak_tag_even_when_it_is_the_same() -> None:
    assert not if_range_holds(b'W/"abc"', b'W/"abc"', MODIFIED, NOW)


def test_if_range_takes_no_date_that_is_not_a_second_old() -> None:
    assert not if_range_holds(SAME, ETAG, MODIFIED, MODIFIED)
    assert if_range_holds(SAME, ETAG, MODIFIED, MODIFIED + 1)


def test_if_range_fails_without_the_validator_that_it_names() -> None:
    assert not if_range_holds(b'"abc"', None, MODIFIED, NOW)
    assert not if_range_holds(SAME, ETAG, None, NOW)


OPAQUE = st.binary(max_size=8).map(
    lambda raw: bytes(octet for octet in raw if octet == 0x21 or 0x23 <= octet != 0x7F)
)
TAG = st.builds(
    lambda weak, opaque: weak + b'"' + opaque + b'"', st.sampled_from([b"", b"W/"]), OPAQUE
)


@given(st.lists(TAG, max_size=6), st.sampled_from([b",", b", ", b" ,\t", b",,", b", ,"]))
def test_parsing_undoes_joining(tags: list[bytes], gap: bytes) -> None:
    assert parse_etags(gap.join(tags)) == tags


def test_a_long_run_of_blanks_is_read_in_linear_time() -> None:
    began_at = time.perf_counter()
    assert parse_etags(b'"a"' + b" " * 60_000 + b"x") is None
    assert parse_etags(b'"a",' + b" \t" * 30_000 + b"x") is None
    assert time.perf_counter() - began_at < 0.5
