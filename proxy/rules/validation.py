"""Validation: asking upstream whether stored answers still hold, and taking what it says.

Pure, but for a bounded memory of dates; `now` is seconds since the epoch. RFC 9111 §3.2, §4.3,
RFC 9110 §13.
"""

import enum
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol, TypeVar

from proxy.message import FieldLine, Fields
from proxy.rules.conditional import Outcome, evaluate, weak_match
from proxy.rules.dates import DAY_S, parse_date
from proxy.rules.validators import Validators, sole_etag, validators_of

# A resource with more variants has its newest ones asked about. The list must leave room in the
# 8 KiB that nginx and Apache read as one field line.
MAX_TAGS = 32
MAX_TAGS_BYTES = 4096
DATES_REMEMBERED = 1024

# What says how long the content of its own message is, or is gone once that is read. RFC 9111 §3.2.
_NEVER_UPDATED = frozenset((b"content-length", b"content-range"))


class Stored(Protocol):
    """What a stored answer shows of itself.

    `born_at` is monotonic, `response_at` wall clock; `size_bytes` is the length of its content.
    """

    status: int
    fields: Fields
    etag: bytes | None
    last_modified: bytes | None
    born_at: float
    response_at: float
    size_bytes: int
    complete: bool


AnyStored = TypeVar("AnyStored", bound=Stored)


class HeadOutcome(enum.Enum):
    """What the answer to a HEAD says about a stored answer to GET."""

    UPDATE = enum.auto()
    INVALIDATE = enum.auto()
    NOTHING = enum.auto()


def conditional_fields(entries: Iterable[Stored]) -> list[FieldLine]:
    """Return the preconditions that ask about `entries`, the most wanted of them first.

    They take the place of the client's own If-None-Match and If-Modified-Since, so that every 304
    is about something stored; the client's are answered from what is stored then (RFC 9111
    §4.3.2 allows the union, which would leave a 304 without an answer to go with it). Empty when
    there is nothing to ask with. Left out: what is not complete (a MUST NOT of §4.3.2) and what is
    not successful, for preconditions speak of neither (RFC 9110 §13.2.1).
    """
    asked = [entry for entry in entries if entry.complete and 200 <= entry.status < 300]
    lines = []
    tags = _bounded(sole_etag(entry.etag) for entry in asked)
    if tags:
        lines.append((b"If-None-Match", b", ".join(tags)))
    if len(asked) == 1:
        modified = asked[0].last_modified
        if modified is not None and parse_date(modified, int(asked[0].response_at)) is not None:
            lines.append((b"If-Modified-Since", modified))
    return lines


def _bounded(tags: Iterable[bytes | None]) -> list[bytes]:
    kept: list[bytes] = []
    left_bytes = MAX_TAGS_BYTES
    for tag in tags:
        if tag is None or tag in kept or len(tag) > left_bytes:
            continue
        kept.append(tag)
        left_bytes -= len(tag) + 2
        if len(kept) == MAX_TAGS:
            break
    return kept


def evaluate_stored(fields: Fields, entry: Stored, now: int) -> Outcome:
    """Evaluate a client's preconditions on GET or HEAD against a stored answer. RFC 9111 §4.3.2.

    PROCEED or NOT_MODIFIED: If-Match and If-Unmodified-Since are not for caches. An answer without
    Last-Modified is as old as its Date, or as its receipt.
    """
    if entry.status not in {200, 206}:
        return Outcome.PROCEED
    none_match = fields.get(b"if-none-match")
    if none_match is not None:
        # What was sent back to the byte is what is stored, even if it is no tag by the grammar.
        if none_match == entry.etag:
            return Outcome.NOT_MODIFIED
        condition = Fields([(b"if-none-match", none_match)])
        return evaluate(b"GET", condition, entry.etag, None, now)
    modified_since = fields.get(b"if-modified-since")
    if modified_since is not None:
        day = now // DAY_S
        since = _remembered_date(modified_since, day)
        if since is not None and _modified_at(entry, day) <= since:
            return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def _modified_at(entry: Stored, day: int) -> int:
    for value in (entry.last_modified, entry.fields.get(b"date")):
        when = None if value is None else _remembered_date(value, day)
        if when is not None:
            return when
    return int(entry.response_at)


@lru_cache(maxsize=DATES_REMEMBERED)
def _remembered_date(value: bytes, day: int) -> int | None:
    """Read a date on a hit: of the present only the day counts, for two-digit years."""
    return parse_date(value, day * DAY_S)


def select_validated(fields: Fields, entries: Sequence[AnyStored], now: int) -> list[AnyStored]:
    """Return the stored answers that a 304 with `fields` updates. RFC 9111 §4.3.4.

    `entries` are those that the request asked about, or could have been answered with. An empty
    list means that the 304 speaks of something else: the request is to be sent again without
    preconditions. Stricter than the letter where tag and date contradict each other: the tag
    decides. A 304 without validators may be about a single entry that has one, too: RFC 9110
    §15.4.5 lets a 304 go without Last-Modified, and Flask's does.
    """
    new = validators_of(fields, now)
    held = [(entry, validators_of(entry.fields, now)) for entry in entries]
    if new.strong_etag is not None or new.strong_date is not None:
        return [entry for entry, validators in held if _same_strongly(new, validators)]
    if new.etag is not None or new.modified_at is not None:
        matching = [entry for entry, validators in held if _same_weakly(new, validators)]
        return [max(matching, key=_born_at)] if matching else []
    return list(entries) if len(entries) == 1 else []


def _same_strongly(new: Validators, held: Validators) -> bool:
    if new.strong_etag is not None and new.strong_etag == held.strong_etag:
        return True
    same_date = new.strong_date is not None and new.strong_date == held.strong_date
    return same_date and not _tags_differ(new, held)


def _same_weakly(new: Validators, held: Validators) -> bool:
    if new.etag is not None and held.etag is not None:
        return weak_match(new.etag, held.etag)
    return new.modified_at is not None and new.modified_at == held.modified_at


def _tags_differ(new: Validators, held: Validators) -> bool:
    return new.etag is not None and held.etag is not None and not weak_match(new.etag, held.etag)


def _born_at(entry: Stored) -> float:
    return entry.born_at


def updated_fields(stored: Fields, fresh: Fields) -> list[FieldLine]:
    """Return the fields of a stored answer after a newer message about it. RFC 9111 §3.2.

    `fresh` holds what may be stored of that message (`storing.stored_fields`). Every field in it
    replaces all lines of its name, Content-Type and Content-Encoding too: the content is stored as
    it was received, so nothing depends on them. An Age is that of one message, and never outlives
    it. The caller asks `storing` about the result again: no-store or private may have come in.
    """
    new = [line for line in fresh if line[0].lower() not in _NEVER_UPDATED]
    replaced = {name.lower() for name, _ in new}
    replaced.add(b"age")
    return [line for line in stored if line[0].lower() not in replaced] + new


def head_outcome(entry: Stored, status: int, fields: Fields) -> HeadOutcome:
    """Say what a HEAD's answer does to a stored answer that could have been chosen for it.

    INVALIDATE means that it is stale from now on. RFC 9111 §4.3.5.
    """
    if status != 200:
        return HeadOutcome.NOTHING
    etag = fields.get(b"etag")
    modified = fields.get(b"last-modified")
    length = fields.get(b"content-length")
    same = (
        (etag is None or etag == entry.etag)
        and (modified is None or modified == entry.last_modified)
        and (length is None or (entry.complete and length == b"%d" % entry.size_bytes))
    )
    return HeadOutcome.UPDATE if same else HeadOutcome.INVALIDATE
