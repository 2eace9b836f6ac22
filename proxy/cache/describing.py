"""What the catalogue says of a file: from its head, which the journal brings or the file has."""

import msgspec

from proxy.cache.codec import decode, entry_of, wall_times
from proxy.cache.head import Head, MarkerHead, Now
from proxy.cache.index import Described
from proxy.cache.journal import Record, seconds
from proxy.cache.purges import Purges, Verdict


def described_by(
    head: Head | MarkerHead, size_bytes: int, purges: Purges, now: Now
) -> Described | None:
    """Return what the catalogue says of a file with this head; None when it has been purged."""
    if isinstance(head, MarkerHead):
        return Described(size_bytes, key=head.key.decode("latin-1"))
    if is_purged(head, now, purges):
        return None
    keep_until, fresh_until = wall_times(head, now)
    content_type = next(
        (value for name, value in head.lines if name.lower() == b"content-type"), b""
    )
    return Described(
        size_bytes,
        seconds(keep_until),
        head.key.decode("latin-1"),
        head.variant.decode("latin-1"),
        head.status,
        content_type.decode("latin-1"),
        seconds(fresh_until),
        tuple([tag.decode("latin-1") for tag in head.tags]),
    )


def told_by(record: Record, purges: Purges, now: Now) -> Described | None:
    """Do as `described_by` for what was put; None when the file is to be looked at for it."""
    if not record.head:
        return None
    try:
        return described_by(decode(record.head), record.amount, purges, now)
    except msgspec.DecodeError:  # a worker of another version
        return None


def is_purged(head: Head, now: Now, purges: Purges) -> bool:
    """Say whether a purge is about the entry with this head."""
    if head.purge_seq == purges.current():  # as of nearly all that is new
        return False
    return purges.verdict(entry_of(head, b"", now)) is Verdict.HARD
