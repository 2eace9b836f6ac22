"""Conditional requests: entity tags, preconditions and If-Range.

Pure: time comes in as `now`, seconds since the epoch. Callers ask about a representation that
exists, so `*` matches it. What is malformed is read in the way that loses nothing: an If-Match
fails, an If-None-Match does not match, a date is as if it were not there.
"""

import enum
import re
from collections.abc import Callable
from typing import Final

from proxy.message import Fields
from proxy.rules.dates import parse_date

# One element of a list, which may be empty; an opaque tag may hold commas, never a quote.
# RFC 9110 §8.8.3, §5.6.1. (Written so that a run of blanks is read once.)
ELEMENT: Final = re.compile(rb'[ \t]*(?:((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|\Z)')

CONDITION_NAMES: Final = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"}
)


class Outcome(enum.Enum):
    """What the preconditions of a request say about it."""

    PROCEED = enum.auto()
    NOT_MODIFIED = enum.auto()
    PRECONDITION_FAILED = enum.auto()


def parse_etags(value: bytes) -> list[bytes] | None:
    """Split a list of entity tags, each with its quotes and `W/`; None when it is not one.

    RFC 9110 §8.8.3, §5.6.1.
    """
    tags = []
    position = 0
    while position < len(value):
        element = ELEMENT.match(value, position)
        if element is None:
            return None
        if element[1]:
            tags.append(element[1])
        position = element.end()
    return tags


def strong_match(one: bytes, other: bytes) -> bool:
    """Compare two entity tags, neither of which may be weak. RFC 9110 §8.8.3.2."""
    return one == other and not one.startswith(b"W/")


def weak_match(one: bytes, other: bytes) -> bool:
    """Compare two entity tags by their opaque parts. RFC 9110 §8.8.3.2."""
    return one.removeprefix(b"W/") == other.removeprefix(b"W/")


def evaluate(
    method: bytes, fields: Fields, etag: bytes | None, last_modified: int | None, now: int
) -> Outcome:
    """Evaluate the preconditions in `fields`, in the order of RFC 9110 §13.2.2.

    `last_modified` is in seconds since the epoch.
    """
    safe = method in {b"GET", b"HEAD"}
    if_match = fields.get(b"if-match")
    if if_match is not None:
        if not _matches(if_match, etag, strong_match):
            return Outcome.PRECONDITION_FAILED
    else:
        unmodified_since = _date(fields.get(b"if-unmodified-since"), now)
        if unmodified_since is not None and last_modified is not None:  # noqa: SIM102
            if last_modified > unmodified_since:
                return Outcome.PRECONDITION_FAILED
    if_none_match = fields.get(b"if-none-match")
    if if_none_match is not None:
        if _matches(if_none_match, etag, weak_match):
            return Outcome.NOT_MODIFIED if safe else Outcome.PRECONDITION_FAILED
        return Outcome.PROCEED
    if safe and last_modified is not None:
        modified_since = _date(fields.get(b"if-modified-since"), now)
        if modified_since is not None and last_modified <= modified_since:
            return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def _date(value: bytes | None, now: int) -> int | None:
    return None if value is None else parse_date(value, now)


def _matches(value: bytes, etag: bytes | None, compare: Callable[[bytes, bytes], bool]) -> bool:
    if value == b"*":
        return True
    if etag is None:
        return False
    return any(compare(tag, etag) for tag in parse_etags(value) or ())


def if_range_holds(value: bytes, etag: bytes | None, last_modified: int | None, now: int) -> bool:
    """Say whether a Range may be honoured in spite of If-Range. RFC 9110 §13.1.5.

    Tags are compared strongly. A date must be the very one, and strong: what changed within the
    last second may change again under the same date. RFC 9110 §8.8.2.2.
    """
    if value.startswith((b'"', b"W/")):
        return etag is not None and strong_match(value, etag)
    if last_modified is None or last_modified >= now:
        return False
    return parse_date(value, now) == last_modified
