"""Cache-Status, read back with a parser of structured fields. RFC 9211, RFC 8941."""

from dataclasses import dataclass
from math import floor, inf
from typing import cast

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.cache_status import (
    BYPASS,
    METHOD,
    MISS,
    PARTIAL,
    REQUEST,
    STALE,
    URI_MISS,
    VARY_MISS,
    appended,
    forwarded,
    hit,
    is_hit,
    outcome,
    stale_s,
    why_validated,
)


@dataclass
class Entry:
    born_at: float = 0.0
    fresh_until: float = 100.0
    swr_until: float = 100.0
    sie_until: float = 100.0
    no_cache: bool = False
    must_revalidate: bool = False


Members = list[tuple[object, dict[str, object]]]


def parse(value: bytes) -> Members:
    return cast("Members", http_sf.parse(value, tltype="list"))


def read(value: bytes) -> Members:
    return [(str(name), parameters) for name, parameters in parse(value)]


@pytest.mark.parametrize(
    ("member", "parameters"),
    [
        # §2.1, §2.4
        (hit(376.9), {"hit": True, "ttl": 376}),
        (hit(0.5), {"hit": True, "ttl": 0}),
        (hit(-0.5), {"hit": True, "ttl": -1}),
        (hit(-412), {"hit": True, "ttl": -412}),
        (hit(inf), {"hit": True, "ttl": 999_999_999_999_999}),
        (hit(-inf), {"hit": True, "ttl": -999_999_999_999_999}),
        # §2.2
        (forwarded(BYPASS), {"fwd": "bypass"}),
        (forwarded(METHOD), {"fwd": "method"}),
        (forwarded(URI_MISS), {"fwd": "uri-miss"}),
        (forwarded(VARY_MISS), {"fwd": "vary-miss"}),
        (forwarded(MISS), {"fwd": "miss"}),
        (forwarded(REQUEST), {"fwd": "request"}),
        (forwarded(STALE), {"fwd": "stale"}),
        (forwarded(PARTIAL), {"fwd": "partial"}),
        # §2.3, §2.4, §2.5, §2.6
        (forwarded(STALE, status=304), {"fwd": "stale", "fwd-status": 304}),
        (forwarded(URI_MISS, ttl_s=59.9), {"fwd": "uri-miss", "ttl": 59}),
        (forwarded(URI_MISS, stored=True), {"fwd": "uri-miss", "stored": True}),
        (forwarded(URI_MISS, stored=False), {"fwd": "uri-miss", "stored": False}),
        (forwarded(URI_MISS, collapsed=True), {"fwd": "uri-miss", "collapsed": True}),
        (forwarded(URI_MISS, collapsed=False), {"fwd": "uri-miss", "collapsed": False}),
        # §2.7
        (hit(1, key=b"https://a/?b=1"), {"hit": True, "ttl": 1, "key": "https://a/?b=1"}),
        (hit(1, key=b'say "hi" \\o/'), {"hit": True, "ttl": 1, "key": 'say "hi" \\o/'}),
        (hit(1, key=b"\r\n\0\x7f\xff"), {"hit": True, "ttl": 1, "key": "%0D%0A%00%7F%FF"}),
        (hit(1, key=b""), {"hit": True, "ttl": 1, "key": ""}),
        # §2.8: a Token where it is one
        (hit(1, detail=b"memory"), {"hit": True, "ttl": 1, "detail": "memory"}),
        (hit(1, detail=b"2 tiers"), {"hit": True, "ttl": 1, "detail": "2 tiers"}),
        (forwarded(BYPASS, detail=b"no-store"), {"fwd": "bypass", "detail": "no-store"}),
    ],
)
def test_each_parameter(member: bytes, parameters: dict[str, object]) -> None:
    [(name, found)] = read(member)
    assert name == "proxyd"
    assert parameters == {
        key: str(value) if isinstance(value, http_sf.Token) else value
        for key, value in found.items()
    }


def test_who_and_why_are_tokens_and_the_key_is_a_string() -> None:
    [(name, parameters)] = parse(forwarded(URI_MISS, key=b"k"))
    assert isinstance(name, http_sf.Token)
    assert isinstance(parameters["fwd"], http_sf.Token)
    assert not isinstance(parameters["key"], http_sf.Token)


def test_a_detail_is_a_token_only_when_it_can_be_one() -> None:
    assert hit(1, detail=b"stale-if-error").endswith(b"; detail=stale-if-error")
    assert hit(1, detail=b"1st").endswith(b'; detail="1st"')


def test_hit_and_fwd_exclude_each_other() -> None:
    assert b"fwd" not in hit(1, key=b"k", detail=b"d")
    assert b"hit" not in forwarded(MISS, status=200, ttl_s=1, stored=True, collapsed=True)


@pytest.mark.parametrize(
    ("entry", "now", "why"),
    [
        (Entry(), 50.0, REQUEST),
        (Entry(), 100.0, STALE),
        (Entry(no_cache=True), 50.0, STALE),
    ],
)
def test_why_a_stored_answer_did_not_do(entry: Entry, now: float, why: bytes) -> None:
    assert why_validated(entry, now) == why


def test_the_member_goes_behind_those_of_caches_nearer_to_the_origin() -> None:
    existing = b'OriginCache; hit; ttl=1100, "CDN, Inc."; fwd=miss'
    members = read(appended(existing, hit(545)))
    assert [name for name, _ in members] == ["OriginCache", "CDN, Inc.", "proxyd"]
    assert members[0][1] == {"hit": True, "ttl": 1100}


@pytest.mark.parametrize("existing", [None, b""])
def test_the_first_cache_of_all_begins_the_list(existing: bytes | None) -> None:
    assert appended(existing, b"proxyd; hit; ttl=1") == b"proxyd; hit; ttl=1"


MAYBE = st.one_of(st.none(), st.booleans())


@given(
    why=st.sampled_from([BYPASS, METHOD, URI_MISS, VARY_MISS, MISS, REQUEST, STALE, PARTIAL]),
    status=st.one_of(st.none(), st.integers(100, 999)),
    ttl_s=st.one_of(st.none(), st.floats(allow_nan=False)),
    stored=MAYBE,
    collapsed=MAYBE,
    key=st.one_of(st.none(), st.binary(max_size=60)),
    detail=st.one_of(st.none(), st.binary(max_size=20)),
)
def test_every_member_can_be_read_back(
    why: bytes,
    status: int | None,
    ttl_s: float | None,
    stored: bool | None,
    collapsed: bool | None,
    key: bytes | None,
    detail: bytes | None,
) -> None:
    member = forwarded(
        why, status=status, ttl_s=ttl_s, stored=stored, collapsed=collapsed, key=key, detail=detail
    )
    [(name, found)] = read(member)
    assert name == "proxyd"
    assert str(found["fwd"]).encode() == why
    assert found.get("fwd-status") == status
    assert found.get("stored") is stored
    assert found.get("collapsed") is collapsed
    assert ("key" in found, "detail" in found) == (key is not None, detail is not None)
    if ttl_s is not None and abs(ttl_s) < 1e14:
        assert found["ttl"] == floor(ttl_s)


PRINTABLE = st.binary(max_size=40).map(lambda raw: bytes(32 + octet % 95 for octet in raw))


@given(PRINTABLE, PRINTABLE, st.integers(-(10**12), 10**12))
def test_reading_undoes_writing(key: bytes, detail: bytes, ttl_s: int) -> None:
    [(_, found)] = read(hit(ttl_s, key=key, detail=detail))
    assert found["key"] == key.decode()
    assert str(found["detail"]) == detail.decode()
    assert found["ttl"] == ttl_s


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (hit(-0.5), 1.0),
        (hit(0.5), 0.0),
        (forwarded(STALE, status=503, ttl_s=-70.2), 71.0),
        (forwarded(URI_MISS, status=200, stored=False), 0.0),
        (hit(5, key=b"/?a=; ttl=-3"), 0.0),
        (b"", 0.0),
    ],
)
def test_for_how_long_an_answer_had_been_stale(member: bytes, expected: float) -> None:
    assert stale_s(member) == expected


def test_a_hit_is_told_from_what_went_forward() -> None:
    assert is_hit(hit(5.0))
    assert not is_hit(forwarded(STALE))
    assert not is_hit(b"")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (hit(5.0), b"hit"),
        (hit(-5.0), b"hit"),
        (b"Other; hit, " + forwarded(URI_MISS, status=200, stored=True), b"uri-miss"),
        (forwarded(STALE, status=304, ttl_s=9.0, collapsed=True), b"collapsed"),
        (forwarded(MISS, status=200, collapsed=False), b"miss"),
        (b"Other; hit", b""),
        (b"", b""),
    ],
)
def test_the_outcome_is_one_word_of_our_own_member(value: bytes, expected: bytes) -> None:
    assert outcome(value) == expected
