"""The parameters of a query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.query import Parameter, parse_query


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (None, []),
        (b"", [(b"", b"", b"")]),
        (b"a=1", [(b"a", b"1", b"a=1")]),
        (b"a=1&b", [(b"a", b"1", b"a=1"), (b"b", b"", b"b")]),
        (b"a=1&a=2", [(b"a", b"1", b"a=1"), (b"a", b"2", b"a=2")]),
        (b"a&&b", [(b"a", b"", b"a"), (b"", b"", b""), (b"b", b"", b"b")]),
        (b"a=1;b=2", [(b"a", b"1;b=2", b"a=1;b=2")]),
        (b"%75tm_a=%3d+x", [(b"utm_a", b"= x", b"%75tm_a=%3d+x")]),
        (b"a%zz=%", [(b"a%zz", b"%", b"a%zz=%")]),
    ],
)
def test_a_query_is_read_as_applications_read_it(
    query: bytes | None, parameters: list[tuple[bytes, bytes, bytes]]
) -> None:
    assert parse_query(query) == [Parameter(*parameter) for parameter in parameters]


@given(st.binary())
def test_the_raw_parameters_are_the_whole_query(query: bytes) -> None:
    assert b"&".join(parameter.raw for parameter in parse_query(query)) == query
