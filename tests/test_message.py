"""Fields as every layer sees them. RFC 9110 §5.2, §5.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import Fields, Request, Response

LINES = [(b"Accept", b"a"), (b"X", b"1"), (b"accept", b"b"), (b"Cookie", b"c=1"), (b"COOKIE", b"d")]
NAMES = st.sampled_from([b"A", b"a", b"Bc", b"bC", b"cookie"])


@pytest.mark.parametrize(
    ("name", "value", "values"),
    [
        (b"accept", b"a, b", [b"a", b"b"]),
        (b"x", b"1", [b"1"]),
        (b"cookie", b"c=1; d", [b"c=1", b"d"]),  # RFC 6265 §5.4
        (b"none", None, []),
    ],
)
def test_fields_are_found_by_lower_case_name(
    name: bytes, value: bytes | None, values: list[bytes]
) -> None:
    fields = Fields(LINES)
    assert fields.get(name) == value
    assert fields.get_all(name) == values
    assert (name in fields) == bool(values)


def test_lines_keep_their_order_and_spelling() -> None:
    fields = Fields(LINES)
    assert list(fields) == fields.lines == LINES
    assert len(fields) == 5
    assert not Fields()
    assert repr(Fields(LINES[:1])) == "Fields([(b'Accept', b'a')])"


def test_fields_are_equal_when_their_lines_are() -> None:
    assert Fields(LINES) == Fields(iter(LINES))
    assert Fields(LINES) != Fields(LINES[1:])
    assert Fields() != []
    with pytest.raises(TypeError):
        hash(Fields())


@given(st.lists(st.tuples(NAMES, st.binary(max_size=3))))
def test_the_index_says_what_the_lines_say(lines: list[tuple[bytes, bytes]]) -> None:
    fields = Fields(lines)
    for name in (b"a", b"bc", b"cookie"):
        values = [value for key, value in lines if key.lower() == name]
        assert fields.get_all(name) == values
        joined = (b"; " if name == b"cookie" else b", ").join(values)
        assert fields.get(name) == (joined if values else None)


def test_a_request_begins_without_content() -> None:
    request = Request(b"GET", b"/a?b", 1, Fields(), b"/a", b"b", b"h:1", b"h")
    assert request.body is None
    assert (request.path, request.query, request.host) == (b"/a", b"b", b"h")


def test_a_response_begins_without_an_encoded_head() -> None:
    response = Response(200, [])
    assert response.wire_head.encoded is None
    assert not response.dated
    assert response.content_length is None
