"""What stands at the beginning of an entry's file; codec.py writes and reads it."""

from typing import Final

import msgspec

from proxy.message import FieldLine

HEAD_TAG: Final = 1


class Now(msgspec.Struct, frozen=True):
    """Both clocks in seconds, and what names this boot of the machine."""

    wall: float
    monotonic: float
    boot: bytes


class Head(msgspec.Struct, array_like=True, frozen=True, tag=HEAD_TAG):
    """All of an entry but its content; times as in `Entry`, as of `saved_at` on both clocks."""

    key: bytes
    variant: bytes
    vary: tuple[bytes, ...]
    status: int
    reason: bytes
    lines: list[FieldLine]
    trailers: list[FieldLine] | None
    size_bytes: int
    request_at: float
    response_at: float
    born_at: float
    fresh_until: float
    swr_until: float
    sie_until: float
    keep_until: float
    no_cache: bool
    must_revalidate: bool
    tags: tuple[bytes, ...]
    purge_seq: int
    complete: bool
    ranges: tuple[tuple[int, int], ...]
    saved_at: float
    saved_monotonic: float
    boot: bytes
    lifetime_id: int = 0
    storing_id: int = 0

    def wall(self, monotonic: float) -> float:
        """Return one of its monotonic times in seconds since the epoch, as seen when saved."""
        return self.saved_at + (monotonic - self.saved_monotonic)


class MarkerHead(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """What is stored under a key whose entries have a Vary; see `store.Marker`."""

    key: bytes
    lists: tuple[tuple[bytes, ...], ...]
