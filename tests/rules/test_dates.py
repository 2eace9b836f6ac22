"""HTTP dates. RFC 9110 §5.6.7."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.dates import format_date, parse_date

NOW = int(datetime(2026, 6, 15, tzinfo=UTC).timestamp())
EXAMPLE = 784_111_777


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"sun, 06 NOV 1994 08:49:37 gmt",
        b"SUNDAY, 06-nov-94 08:49:37 GMT",
        b"Mon, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_all_three_forms_name_the_same_second(value: bytes) -> None:
    assert parse_date(value, NOW) == EXAMPLE


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"784111777",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 29 Feb 1900 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Foo 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 23:60:00 GMT",
        b"Sun, 06 Nov 1994 23:59:61 GMT",
        b"Sun, 06 Nov 0000 23:59:59 GMT",
        b"Xyz, 06 Nov 1994 08:49:37 GMT",
        b" Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"Sun, 06  Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-1994 08:49:37 GMT",
        b"Sunday, 29-Feb-25 08:49:37 GMT",
        b"Sun Nov 06 08:49:37 1994 GMT",
        b"Sun Nov 6 08:49:37 1994",
        b"Sun Nov  0 08:49:37 1994",
        b"Sun, \xd9\xa0\xd9\xa6 Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_not_a_date_is_none(value: bytes) -> None:
    assert parse_date(value, NOW) is None


def test_a_leap_second_is_the_next_minute() -> None:
    assert parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW) == 1_483_228_800


@pytest.mark.parametrize(
    ("value", "year"),
    [
        (b"Monday, 15-Jun-76 00:00:00 GMT", 2076),  # exactly 50 years ahead
        (b"Tuesday, 16-Jun-76 00:00:00 GMT", 1976),  # a day more: the most recent past year
        (b"Tuesday, 01-Jan-77 00:00:00 GMT", 1977),
        (b"Friday, 31-Dec-99 00:00:00 GMT", 1999),
        (b"Saturday, 01-Jan-00 00:00:00 GMT", 2000),
        (b"Sunday, 01-Jun-26 00:00:00 GMT", 2026),
        (b"Wednesday, 01-Jan-75 00:00:00 GMT", 2075),
    ],
)
def test_a_two_digit_year_is_at_most_fifty_years_ahead(value: bytes, year: int) -> None:
    when = parse_date(value, NOW)
    assert when is not None
    assert datetime.fromtimestamp(when, UTC).year == year


def test_a_two_digit_year_near_a_century_is_completed_from_now() -> None:
    in_2060 = int(datetime(2060, 1, 1, tzinfo=UTC).timestamp())
    when = parse_date(b"Saturday, 01-Jan-05 00:00:00 GMT", in_2060)
    assert when is not None
    assert datetime.fromtimestamp(when, UTC).year == 2105


def test_a_date_is_written_as_imf_fixdate() -> None:
    assert format_date(EXAMPLE) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@given(st.integers(min_value=-2_208_988_800, max_value=253_402_300_799))
def test_parse_undoes_format(when: int) -> None:
    assert parse_date(format_date(when), NOW) == when


@given(st.datetimes(datetime(1977, 1, 1), datetime(2076, 6, 15)))
def test_the_old_forms_are_read_like_the_new_one(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    when = int(moment.timestamp())
    assert parse_date(moment.strftime("%A, %d-%b-%y %H:%M:%S GMT").encode(), NOW) == when
    padded = f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S} {moment.year:04d}"
    assert parse_date(padded.encode(), NOW) == when


@given(st.binary(max_size=40))
def test_no_input_raises(value: bytes) -> None:
    parse_date(value, NOW)
