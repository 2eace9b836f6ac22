"""Sizes and durations as people write them."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.units import LARGEST_SIZE, SIZE_UNITS, parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0),
        (65536, 65536),
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("8KiB", 8192),
        ("8kib", 8192),
        ("64MiB", 64 * 1024**2),
        ("64 MiB", 64 * 1024**2),
        ("1.5KiB", 1536),
        ("2GB", 2_000_000_000),
        ("1TiB", 1024**4),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(written: object, expected: int) -> None:
    assert parse_size(written) == expected


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("8k", '"8k" has half a unit; write "8KiB" (powers of 1024, as in nginx and Apache)'),
        ("8k", '"8kB" (powers of 1000)'),
        ("2Gi", 'write "2GiB"'),
        ("5 apples", 'the unknown unit "apples"'),
        ("0.3B", "not a whole number of bytes"),
        ("-1", 'not a size such as "64KiB"'),
        ("", 'not a size such as "64KiB"'),
        ("1e3", '"1e3" is not a size'),
        ("\u0661KiB", "not a size"),
        (-1, "not between 0 and"),
        ("99999999TiB", "not between 0 and"),
        (1.5, "1.5 is not a size"),
        (True, "True is not a size"),
        (None, "None is not a size"),
    ],
)
def test_what_is_not_a_size_is_refused_with_the_forms_that_are(
    written: object, complaint: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_size(written)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("10 s", 10.0),
        ("1.5m", 90.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("0s", 0.0),
        ("0.1s", 0.1),
    ],
)
def test_a_duration_has_a_unit(written: str, expected: float) -> None:
    assert parse_duration(written) == expected


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("10", '"10" has no unit; write "10s" or "10ms"'),
        (10, '10 has no unit; write "10s" or "10ms"'),
        (1.5, '1.5 has no unit; write "1.5s" or "1.5ms"'),
        ("10 sec", 'the unknown unit "sec"'),
        ("10S", 'the unknown unit "S"'),
        ("soon", '"soon" is not a duration such as "500ms", "10s"'),
        ("-1s", "is not a duration"),
        ("1h30m", "is not a duration"),
        ("99999d", "longer than ten years"),
        (True, "True is not a duration"),
    ],
)
def test_what_is_not_a_duration_is_refused_with_the_forms_that_are(
    written: object, complaint: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_duration(written)


@given(st.integers(0, LARGEST_SIZE))
def test_a_bare_number_is_bytes_with_and_without_quotes(size_bytes: int) -> None:
    assert parse_size(size_bytes) == parse_size(f"{size_bytes}") == size_bytes


@given(st.integers(0, 10**9))
def test_a_thousand_milliseconds_are_a_second(milliseconds: int) -> None:
    assert parse_duration(f"{milliseconds}ms") == parse_duration(f"{milliseconds / 1000:.3f}s")


@given(st.decimals(0, 1000, places=3), st.sampled_from(sorted(SIZE_UNITS)))
def test_a_fraction_is_exact_or_refused(number: Decimal, unit: str) -> None:
    exact = number * SIZE_UNITS[unit]
    if exact == exact.to_integral_value():
        assert parse_size(f"{number:f}{unit}") == int(exact)
    else:
        with pytest.raises(ValueError, match="whole number of bytes"):
            parse_size(f"{number:f}{unit}")
