"""One stored answer, as every store keeps it and every rule of reuse sees it. No I/O.

Times ending in `_at` and `_until` are seconds of the monotonic clock, so that a jump of the wall
clock neither freshens nor ages an entry; `request_at` and `response_at` alone are wall clock, for
what compares them with dates. Age is `now - born_at`.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from proxy.message import Fields, Response, Source
from proxy.rules.ranges import Span

# Measured (bench/stores.py): the object with its numbers, its places in the store's tables, a
# field line with its place in the index of its Fields, an object of bytes.
ENTRY_BYTES: Final = 1100
LINE_BYTES: Final = 260
BYTES_BYTES: Final = 33


class StoredBody(Protocol):
    """Content that stays where it is stored, and is read while it goes out."""

    size_bytes: int

    def source(self, pieces: Sequence[bytes | Span] | None = None) -> Source:
        """Open it and return a source of `pieces` in order, of all of it for None.

        Every byte is checked before it is pushed. Raises StoredContentError when it is gone or
        damaged, which is to be treated as a miss; what cannot tell without waiting for the disk is
        a DiskSource that is not `seen`.
        """


_OF_ENTRY: Final[tuple[str, ...]] = (
    "_cost_bytes",
    "body",
    "born_at",
    "complete",
    "etag",
    "fields",
    "fresh_until",
    "hits",
    "keep_until",
    "key",
    "last_modified",
    "lifetime_id",
    "must_revalidate",
    "no_cache",
    "not_modified",
    "purge_seq",
    "ranges",
    "reason",
    "request_at",
    "response",
    "response_at",
    "response_second",
    "shown",
    "sie_until",
    "size_bytes",
    "status",
    "storing_id",
    "swr_until",
    "tags",
    "touch_at",
    "trailers",
    "variant",
    "vary",
)


class Entry:
    """One stored answer.

    `key` names the resource; `variant` is what the request's fields named in `vary` (lower-case,
    sorted) came to, both empty without Vary. `fields` are those that are stored (RFC 9111 §3.1).
    `size_bytes` is the length of the content.
    `purge_seq` is the newest purge that the entry has been compared with. `ranges` are the parts
    that are here when `complete` is False. `touch_at` belongs to the memory store: from then on a
    use is worth telling it. `response`, `not_modified`, `response_second` and `shown` belong to
    the lookup step.
    """

    __slots__ = _OF_ENTRY

    def __init__(  # noqa: PLR0913
        self,
        *,
        key: bytes,
        status: int,
        fields: Fields,
        body: bytes | StoredBody,
        request_at: float,
        response_at: float,
        born_at: float,
        fresh_until: float,
        swr_until: float,
        sie_until: float,
        keep_until: float,
        variant: bytes = b"",
        vary: tuple[bytes, ...] = (),
        reason: bytes = b"",
        trailers: Fields | None = None,
        no_cache: bool = False,
        must_revalidate: bool = False,
        tags: tuple[bytes, ...] = (),
        purge_seq: int = 0,
        complete: bool = True,
        ranges: tuple[Span, ...] = (),
        lifetime_id: int = 0,
        storing_id: int = 0,
    ) -> None:
        self.key = key
        self.variant = variant
        self.vary = vary
        self.status = status
        self.reason = reason
        self.trailers = trailers
        self.body = body
        self.request_at = request_at
        self.response_at = response_at
        self.born_at = born_at
        self.fresh_until = fresh_until
        self.swr_until = swr_until
        self.sie_until = sie_until
        self.keep_until = keep_until
        self.no_cache = no_cache
        self.must_revalidate = must_revalidate
        self.tags = tags
        self.purge_seq = purge_seq
        self.complete = complete
        self.ranges = ranges
        self.lifetime_id = lifetime_id
        self.storing_id = storing_id
        self.size_bytes = len(body) if isinstance(body, bytes) else body.size_bytes
        self.hits = 0
        self.touch_at = 0.0
        self.response: Response | None = None
        self.shown: object = None
        self.not_modified: Response | None = None
        self.response_second = 0
        self.set_fields(fields)

    def set_fields(self, fields: Fields) -> None:
        """Take `fields`, at first or after a validation; a store that counts wants it put again."""
        self.fields = fields
        self.etag: bytes | None = fields.get(b"etag")
        self.last_modified: bytes | None = fields.get(b"last-modified")
        self._cost_bytes = 0
        self.response = None
        self.shown = None

    def set_content(self, content: bytes) -> None:
        """Take all of the content, which was not here yet."""
        self.body = content
        self._cost_bytes = 0
        self.size_bytes = len(content)
        self.response = None
        self.shown = None

    @property
    def cost_bytes(self) -> int:
        """Return what it takes in memory, all in; counted for the first who asks."""
        if not self._cost_bytes:
            self._cost_bytes = cost_of(self)
        return self._cost_bytes

    def copied(self) -> "Entry":
        """Return another one that is the same; `copy.copy` knows no compiled classes."""
        made = Entry(
            key=self.key,
            status=self.status,
            fields=self.fields,
            body=self.body,
            request_at=self.request_at,
            response_at=self.response_at,
            born_at=self.born_at,
            fresh_until=self.fresh_until,
            swr_until=self.swr_until,
            sie_until=self.sie_until,
            keep_until=self.keep_until,
        )
        for name in _OF_ENTRY:
            setattr(made, name, getattr(self, name))
        return made

    def __repr__(self) -> str:
        return f"<Entry {self.status} {self.key!r} {self.variant!r} {self.size_bytes} bytes>"


def cost_of(entry: Entry) -> int:
    """Return what `entry` takes in memory, with the head that is encoded for it once it is used."""
    cost = ENTRY_BYTES + 2 * BYTES_BYTES + len(entry.variant) + len(entry.key)
    cost += cost_of_lines(entry.fields)
    if entry.trailers is not None:
        cost += cost_of_lines(entry.trailers)
    for name in entry.vary:
        cost += BYTES_BYTES + len(name)
    for name in entry.tags:
        cost += BYTES_BYTES + len(name)
    body = entry.body
    return cost + len(body) if isinstance(body, bytes) else cost


def cost_of_lines(fields: Fields) -> int:
    """Return what field lines take in memory, also encoded.

    Entries whose heads were the same share them; each counts as if they were its own.
    """
    cost = 0
    for name, value in fields.lines:
        cost += LINE_BYTES + 2 * (len(name) + len(value))
    return cost
