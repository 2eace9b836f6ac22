"""HTTP dates: read in the three forms that RFC 9110 knows, written in the one that it wants.

Pure: the two-digit years of the oldest form are read relative to `now`, seconds since the epoch.
"""

import re
from datetime import date
from email.utils import formatdate
from functools import lru_cache
from typing import Final

EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
DAY_S: Final = 86_400

MONTHS: Final = {
    name: number
    for number, name in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1
    )
}

_MONTH: Final = rb"(?P<month>[a-z]{3})"
_TIME: Final = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"

# Names are matched in any case, as RFC 9111 §4.2 asks of caches; a weekday need not fit its date.
IMF_FIXDATE: Final = re.compile(
    rb"(?:mon|tue|wed|thu|fri|sat|sun), (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME
    + rb" gmt",
    re.IGNORECASE,
)  # fmt: skip
RFC_850: Final = re.compile(
    rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (?P<day>\d\d)-" + _MONTH
    + rb"-(?P<short_year>\d\d) " + _TIME + rb" gmt",
    re.IGNORECASE,
)  # fmt: skip
ASCTIME: Final = re.compile(
    rb"(?:mon|tue|wed|thu|fri|sat|sun) " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME
    + rb" (?P<year>\d{4})",
    re.IGNORECASE,
)  # fmt: skip


# "Sun, 06 Nov 1994 08:49:37 GMT"
_FIXDATE_BYTES: Final = 29


def parse_date(value: bytes, now: int) -> int | None:
    """Read an HTTP-date into seconds since the epoch, None when it is not one. RFC 9110 §5.6.7."""
    if len(value) == _FIXDATE_BYTES:
        return _parse_again(value, now // DAY_S)
    return _parse(value, now)


@lru_cache(maxsize=1024)
def _parse_again(value: bytes, today: int) -> int | None:
    """Parse what many messages say in one second."""
    return _parse(value, today * DAY_S)


def _parse(value: bytes, now: int) -> int | None:
    match = IMF_FIXDATE.fullmatch(value) or RFC_850.fullmatch(value) or ASCTIME.fullmatch(value)
    if match is None:
        return None
    parts = match.groupdict()
    month = MONTHS.get(parts["month"].lower())
    hour, minute, second = int(parts["hour"]), int(parts["minute"]), int(parts["second"])
    if month is None or hour > 23 or minute > 59 or second > 60:  # 60 is a leap second
        return None
    try:
        if "year" in parts:
            day = date(int(parts["year"]), month, int(parts["day"]))
        else:
            day = _recent(int(parts["short_year"]), month, int(parts["day"]), now)
    except ValueError:
        return None
    return (day.toordinal() - EPOCH_DAY) * DAY_S + hour * 3600 + minute * 60 + second


def _recent(short_year: int, month: int, day: int, now: int) -> date:
    """Complete a two-digit year to the latest one not more than 50 years ahead of `now`."""
    today = date.fromordinal(now // DAY_S + EPOCH_DAY)
    century = today.year + 50 - (today.year + 50) % 100
    if short_year > (today.year + 50) % 100:
        century -= 100
    whole = date(century + short_year, month, day)
    if (whole.year - today.year, whole.month, whole.day) > (50, today.month, today.day):
        whole = date(whole.year - 100, month, day)
    return whole


@lru_cache(maxsize=1024)
def format_date(when: int) -> bytes:
    """Write seconds since the epoch as an IMF-fixdate. RFC 9110 §5.6.7."""
    return formatdate(when, usegmt=True).encode()
