"""An entry's head as bytes, for a file or another process, and back. Pure: the time is an argument.

An entry's times are of the monotonic clock, which starts anew with each boot, so its head carries
both clocks at the moment of writing and the boot's own name. In the same boot they are taken as
they are, exact whatever the wall clock did meanwhile. In another boot the time between is what the
wall clock says; if that runs backwards nobody knows how old the entry is, and it must be validated
before it is used again. (A clock that is behind at boot and not yet set cannot be told from a short
stop; nginx and Varnish trust it as well.)
"""

from typing import Final

import msgspec

from proxy.cache.entry import Entry, StoredBody
from proxy.cache.head import HEAD_TAG, Head, MarkerHead, Now
from proxy.cache.store import Marker
from proxy.message import Fields
from proxy.rules.ranges import Span

_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final[msgspec.msgpack.Decoder[Head | MarkerHead]] = msgspec.msgpack.Decoder(
    Head | MarkerHead
)


def encode(entry: Entry, now: Now, size_bytes: int | None = None) -> bytes:
    """Return the head of `entry`; `size_bytes` is the length of its content when that differs."""
    # The fields of Head in their order, as a tuple: to make a Head of them takes longer than all.
    return _encode(
        (
            HEAD_TAG,
            entry.key,
            entry.variant,
            entry.vary,
            entry.status,
            entry.reason,
            entry.fields.lines,
            None if entry.trailers is None else entry.trailers.lines,
            entry.size_bytes if size_bytes is None else size_bytes,
            entry.request_at,
            entry.response_at,
            entry.born_at,
            entry.fresh_until,
            entry.swr_until,
            entry.sie_until,
            entry.keep_until,
            entry.no_cache,
            entry.must_revalidate,
            entry.tags,
            entry.purge_seq,
            entry.complete,
            entry.ranges,
            now.wall,
            now.monotonic,
            now.boot,
            entry.lifetime_id,
            entry.storing_id,
        )
    )


def encode_marker(marker: Marker) -> bytes:
    """Return the head of a marker."""
    return _encode(MarkerHead(marker.key, marker.lists))


def decode(data: bytes | memoryview) -> Head | MarkerHead:
    """Return the head that `encode` or `encode_marker` made; its checksum has been compared.

    Raises msgspec.DecodeError for what is of another make.
    """
    return _decoder.decode(data)


def entry_of(head: Head, body: bytes | StoredBody, now: Now) -> Entry:
    """Return the entry with its times on the clock of this boot."""
    shift, is_known = _shift(head, now)
    return Entry(
        key=head.key,
        variant=head.variant,
        vary=head.vary,
        status=head.status,
        reason=head.reason,
        fields=Fields(head.lines),
        trailers=None if head.trailers is None else Fields(head.trailers),
        body=body,
        request_at=head.request_at,
        response_at=head.response_at,
        born_at=head.born_at + shift,
        fresh_until=head.fresh_until + shift if is_known else now.monotonic,
        swr_until=head.swr_until + shift if is_known else now.monotonic,
        sie_until=head.sie_until + shift if is_known else now.monotonic,
        keep_until=head.keep_until + shift,
        no_cache=head.no_cache or not is_known,
        must_revalidate=head.must_revalidate,
        tags=head.tags,
        purge_seq=head.purge_seq,
        complete=head.complete,
        ranges=tuple([Span(first, stop) for first, stop in head.ranges]),
        lifetime_id=head.lifetime_id,
        storing_id=head.storing_id,
    )


def wall_times(head: Head, now: Now) -> tuple[float, float]:
    """Return until when it is kept and until when it is fresh, in seconds since the epoch.

    As `entry_of` has it.
    """
    shift, is_known = _shift(head, now)
    ahead = now.wall - now.monotonic
    keep_until = ahead + head.keep_until + shift
    return keep_until, ahead + head.fresh_until + shift if is_known else now.wall


def _shift(head: Head, now: Now) -> tuple[float, bool]:
    """Return what to add to its times, and whether the time since it was saved is known."""
    if head.boot == now.boot and head.saved_monotonic <= now.monotonic:
        return 0.0, True
    passed_s = now.wall - head.saved_at
    is_known = passed_s >= 0 and head.response_at <= now.wall
    return now.monotonic - head.saved_monotonic - max(passed_s, 0.0), is_known
