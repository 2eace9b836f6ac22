"""Content negotiation. RFC 9110 §12."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.negotiation import CODINGS, IDENTITY, choose_coding, parse_weights, prefers_json


@pytest.mark.parametrize(
    ("value", "weights"),
    [
        (b"gzip", {b"gzip": 1.0}),
        (b"gzip;q=0.5, BR ; Q=0.25", {b"gzip": 0.5, b"br": 0.25}),
        (b"gzip;q=0.", {b"gzip": 0.0}),
        (b"gzip;q=1.000", {b"gzip": 1.0}),
        (b"text/html;level=1;q=0.4", {b"text/html": 0.4}),
        (b"gzip;q=1.5, br;q=x, zstd;q=-1, a;q=0.1234", {}),
        (b", ,gzip,", {b"gzip": 1.0}),
        (b";q=1", {}),
        (b"", {}),
    ],
)
def test_weights(value: bytes, weights: dict[bytes, float]) -> None:
    assert parse_weights(value) == weights


@pytest.mark.parametrize(
    ("accept_encoding", "chosen"),
    [
        (None, IDENTITY),
        (b"", IDENTITY),
        (b"gzip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip, deflate", b"gzip"),
        (b"zstd, gzip", b"zstd"),
        (b"deflate, compress", IDENTITY),
        (b"GZIP", b"gzip"),
        # weights come before our own order
        (b"gzip;q=1.0, br;q=0.5", b"gzip"),
        (b"br;q=0.001", b"br"),
        (b"gzip;q=0", IDENTITY),
        (b"br;q=0, *", b"zstd"),
        (b"*", b"br"),
        (b"*;q=0", IDENTITY),
        (b"identity", IDENTITY),
        (b"identity;q=1, *;q=0", IDENTITY),
        (b"identity, gzip;q=0.5", IDENTITY),
        (b"identity;q=0.5, gzip", b"gzip"),
        (b"identity, gzip", b"gzip"),
        (b"identity;q=0.5, *;q=0.5", b"br"),
        (b"gzip;q=0, identity;q=0", IDENTITY),
        (b"identity;q=0", IDENTITY),
        (b"identity;q=0, gzip;q=0.1", b"gzip"),
    ],
)
def test_the_coding_of_an_answer(accept_encoding: bytes | None, chosen: bytes) -> None:
    assert choose_coding(accept_encoding, CODINGS) == chosen


def test_only_what_is_available_is_chosen() -> None:
    assert choose_coding(b"gzip, br", (b"gzip",)) == b"gzip"
    assert choose_coding(b"br", (b"gzip",)) == IDENTITY
    assert choose_coding(b"gzip, br", ()) == IDENTITY


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (None, False),
        (b"", False),
        (b"*/*", False),
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        (b"application/json", True),
        (b"application/json, text/html", False),
        (b"application/json, text/html;q=0.9", True),
        (b"application/json, text/plain, */*", False),
        (b"application/json, */*;q=0.5", True),
        (b"application/*", True),
        (b"application/json;q=0", False),
        (b"text/*, application/json;q=0.5", False),
        (b"APPLICATION/JSON", True),
        (b"application/json; charset=utf-8", True),
    ],
)
def test_json_is_given_to_those_who_prefer_it_to_html(accept: bytes | None, json: bool) -> None:
    assert prefers_json(accept) is json


@given(st.binary(max_size=60))
def test_no_input_raises(value: bytes) -> None:
    assert choose_coding(value, CODINGS) in {*CODINGS, IDENTITY}
    prefers_json(value)
