"""Server-Timing, written and read. W3C Server Timing §2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.server_timing import Metric, metric, parse

TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=20).map(str.encode)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (metric(b"app", 0.0123456), b"app;dur=12.346"),
        (metric(b"queue", 0.0), b"queue;dur=0.000"),
        (metric(b"cache", None, b"hit"), b"cache;desc=hit"),
        (metric(b"cache", 1.5, b"hit"), b"cache;desc=hit;dur=1500.000"),
        (metric(b"miss"), b"miss"),
        # The clock does not go back; a difference of two sums of floats may.
        (metric(b"accept", -1e-9), b"accept;dur=0.000"),
    ],
)
def test_a_metric_is_written_in_milliseconds(written: bytes, expected: bytes) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # The examples of the specification.
        (
            [b"miss, db;dur=53, app;dur=47.2", b"customView, dc;desc=atl"],
            [("miss", 0.0, ""), ("db", 0.053, ""), ("app", 0.0472, ""), ("customView", 0.0, ""),
             ("dc", 0.0, "atl")],
        ),
        ([b'cache;desc="Cache Read";dur=23.2'], [("cache", 0.0232, "Cache Read")]),
        ([b'a ; DUR = 1 ;desc="x, y;\\"z"\t,b'], [("a", 0.001, 'x, y;"z'), ("b", 0.0, "")]),
        ([b"a;dur=1;dur=2;dur"], [("a", 0.001, "")]),
        ([b"a;dur=soon, , b;other=1"], [("a", 0.0, ""), ("b", 0.0, "")]),
        ([b"", b" ,"], []),
    ],
)  # fmt: skip
def test_metrics_of_all_lines_are_read_in_order(
    values: list[bytes], expected: list[tuple[str, float, str]]
) -> None:
    found = [
        (one.name.decode(), round(one.duration_s, 9), one.description.decode())
        for one in parse(values)
    ]
    assert found == expected


@given(st.lists(st.tuples(TOKENS, st.integers(0, 10**9), TOKENS), max_size=5))
def test_reading_undoes_writing(given_metrics: list[tuple[bytes, int, bytes]]) -> None:
    written = [metric(name, us / 1e6, text) for name, us, text in given_metrics]
    found = list(parse([b", ".join(written)]))
    assert found == [
        Metric(name, pytest.approx(us / 1e6), text)  # type: ignore[arg-type]
        for name, us, text in given_metrics
    ]
