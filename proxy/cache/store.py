"""What the tiers ask of a store. Valkey may come as a sibling of memory and disk.

A store never raises: what it cannot read, or cannot keep, is a miss that it has logged.
"""

from collections.abc import Callable
from typing import Final, Protocol

from proxy.cache.entry import Entry
from proxy.message import Fields, Source
from proxy.rules.ranges import Span


class Marker:
    """What a store holds for a key in place of an entry: its lists of Vary names, newest first.

    The entry is then asked for with the variant that the request comes to. RFC 9111 §4.1.
    """

    __slots__ = ("key", "lists")

    def __init__(self, key: bytes, lists: tuple[tuple[bytes, ...], ...]) -> None:
        self.key = key
        self.lists = lists


class Later:
    """Says that the answer needs a thread: to be asked for again with `read`."""


LATER: Final = Later()


class Writer(Protocol):
    """Content on its way into a store, while it streams to a client."""

    def write(self, data: bytes) -> bool:
        """Take the next bytes; False when much is waiting, until `drained` is called."""

    @property
    def written_bytes(self) -> int:
        """How much can be read back."""

    @property
    def gave_up(self) -> bool:
        """Whether nobody will find it; what is written can be read back all the same."""

    def read_back(self, span: Span) -> Source:
        """Return a source of content that is written. Raises StoredContentError."""

    async def commit(self, trailers: Fields | None = None) -> Entry | None:
        """Make it an entry that others find; None when it could not be kept."""

    def abandon(self) -> None:
        """Give it up, also what could be read back; nothing of it is found by anybody."""

    def release(self) -> None:
        """Learn that nobody reads back any more what is committed."""


class Store(Protocol):
    """Entries by key and variant, beyond the memory of one worker."""

    def read_now(self, key: bytes, variant: bytes = b"") -> Entry | Marker | Later | None:
        """Look up without waiting; LATER when that is not possible."""

    async def read(self, key: bytes, variant: bytes = b"") -> Entry | Marker | None:
        """Look up; None is a miss."""

    def put(self, entry: Entry) -> bool:
        """Keep an entry whose body is bytes, or the new head of one whose content is here.

        It is done in the background; False when it will not be done.
        """

    def begin(self, entry: Entry, drained: Callable[[], None]) -> Writer | None:
        """Begin to store content that comes bit by bit; None when that is not possible now."""

    def drop(self, key: bytes, variant: bytes = b"") -> bool:
        """Give up one entry, in the background."""

    def touch(self, entry: Entry) -> None:
        """Learn that an entry which is also kept in memory was used."""
