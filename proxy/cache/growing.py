"""A body that is kept while it streams: one source, any number of readers at any time.

    upstream ──feed──→ pieces ──→ readers that are here
                │         └─────→ a reader that comes later: what is kept first, then as it comes
                ├──→ memory, up to `limit_bytes` ──finish──→ the content of an entry
                └──→ a writer of the store, for more than that: what it has on the disk is dropped
                     here, and read from there by who comes later

A reader that pauses holds the source back, as a disk does that is behind; so a spool stands behind
each reader that is slow.
"""

from collections import deque
from collections.abc import Callable

from proxy.cache.store import Writer
from proxy.errors import ClientGoneError, StoredContentError
from proxy.message import Consumer, Fields, Source
from proxy.rules.ranges import Span

# A body that all have left is taken to its end when most of it is here, or little is missing.
# Squid's quick_abort_pct is 95, its quick_abort_max 16 KB.
WORTH_FINISHING_BYTES = 256 * 1024


# Begins to write; is given what to call when the writer takes more.
Begin = Callable[[Callable[[], None]], Writer | None]
# Told once, at the end: the content when it is in memory, and its trailers.
OnEnd = Callable[[bytes | None, Fields | None], None]


class Growing:
    """The Consumer of the upstream's body.

    `keeping` is True while all of it can still be had; `writer` is who has what memory has not.
    """

    __slots__ = (
        "_base",
        "_begin",
        "_behind",
        "_largest_bytes",
        "_limit_bytes",
        "_on_end",
        "_paused",
        "_pieces",
        "_readers",
        "_source",
        "ended",
        "error",
        "keeping",
        "length",
        "size_bytes",
        "trailers",
        "writer",
    )

    def __init__(
        self,
        source: Source,
        limit_bytes: int,
        on_end: OnEnd,
        *,
        begin: Begin | None = None,
        largest_bytes: int | None = None,
    ) -> None:
        self.length = source.length
        self.size_bytes = 0
        self.keeping = True
        self.ended = False
        self.error: Exception | None = None
        self.trailers: Fields | None = None
        self.writer: Writer | None = None
        self._source = source
        self._limit_bytes = limit_bytes
        self._largest_bytes = limit_bytes if largest_bytes is None else largest_bytes
        self._on_end = on_end
        self._begin = begin
        self._pieces: deque[bytes] = deque()
        self._base = 0  # where the first piece begins
        self._readers: list[Reader] = []
        self._paused = False
        self._behind = False  # the writer wants a pause
        if source.length is not None and source.length > limit_bytes:
            self._outgrow(source.length)

    def start(self) -> None:
        """Begin to take it from the source."""
        self._source.start(self)

    def reader(self) -> "Reader":
        """Return a source of all of it; only while `keeping`, or before anything came."""
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def worth_finishing(self) -> bool:
        """Whether to go on although nobody reads it: at least half of it is here, or nearly all."""
        if self.length is None or not self.keeping:
            return False
        missing = self.length - self.size_bytes
        return missing <= max(self.size_bytes, WORTH_FINISHING_BYTES)

    def cancel(self) -> None:
        """Give the source up; those who read are told."""
        if not self.ended:
            self._source.cancel()
            self.abort(ClientGoneError("nobody wants it any more"))

    # From the source.

    def feed(self, data: bytes) -> None:
        """Keep it, and pass it on to all who read."""
        self.size_bytes += len(data)
        self._pieces.append(data)
        if self.keeping:
            if self.writer is None and self.size_bytes > self._limit_bytes:
                self._outgrow(self.size_bytes)
            elif self.size_bytes > self._largest_bytes:
                self._keep_nothing()
            elif self.writer is not None:
                self._write(data)
        for reader in list(self._readers):
            reader.push(data)
        self._forget()

    def finish(self, trailers: Fields | None) -> None:
        """All of it is here."""
        self.ended = True
        self.trailers = trailers
        content = None
        if self.keeping and self.writer is None:
            content = b"".join(self._pieces)
            self._pieces = deque([content] if content else [])
        self._on_end(content, trailers)
        for reader in list(self._readers):
            reader.end()

    def abort(self, error: Exception) -> None:
        """The source broke off: nothing of it is kept."""
        self.ended = True
        self.error = error
        self._keep_nothing()
        self._pieces.clear()
        self._on_end(None, None)
        for reader in list(self._readers):
            reader.end()

    # Between the two.

    def _outgrow(self, size_bytes: int) -> None:
        """Too large for memory: go on in a writer, if there is one for so much."""
        if size_bytes <= self._largest_bytes and self._begin is not None:
            self.writer = self._begin(self._drained)
        if self.writer is None:
            self._keep_nothing()
            return
        for piece in list(self._pieces):
            self._write(piece)

    def _keep_nothing(self) -> None:
        self.keeping = False
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.abandon()

    def _write(self, data: bytes) -> None:
        writer = self.writer
        if writer is None:
            return
        if not writer.write(data):
            self._behind = True
            self.steer()
        if writer.gave_up:
            self.writer, self.keeping = None, False

    def _drained(self) -> None:
        self._behind = False
        self._forget()
        self.steer()

    def _forget(self) -> None:
        """Drop what nobody needs from memory any more."""
        if not self.keeping:
            if all(reader.live for reader in self._readers):
                self._base = self.size_bytes
                self._pieces.clear()
            return
        if self.writer is None:
            return
        written = self.writer.written_bytes
        pieces = self._pieces
        while pieces and self._base + len(pieces[0]) <= written:
            self._base += len(pieces.popleft())

    def from_memory(self, at: int) -> list[bytes] | None:
        """Return the content from `at` on that has come; None when memory has not got it."""
        if at < self._base:
            return None
        found = []
        begins = self._base
        for piece in self._pieces:
            if begins + len(piece) > at:
                found.append(piece[max(0, at - begins) :])
            begins += len(piece)
        return found

    def from_disk(self, at: int) -> tuple[Source, int] | None:
        """Return a source of what the writer has from `at` on, and where that ends."""
        if self.writer is None:
            return None
        stop = self.writer.written_bytes
        try:
            return self.writer.read_back(Span(at, stop)), stop
        except StoredContentError:
            return None

    def leave(self, reader: "Reader") -> None:
        """A reader has gone."""
        if reader in self._readers:
            self._readers.remove(reader)
        if not self._readers and not self.ended and not self.worth_finishing():
            self.cancel()
        else:
            self.steer()

    def steer(self) -> None:
        """Hold the source back while a reader, or the disk, cannot take more."""
        paused = self._behind or any(reader.paused for reader in self._readers)
        if paused != self._paused and not self.ended:
            self._paused = paused
            if paused:
                self._source.pause()
            else:
                self._source.resume()


class Reader:
    """A Source of a growing body, for one client.

    `live` says that it has all that came so far, and gets the rest as it comes. Until then it reads
    what is kept: from the disk first, then from memory. `paused` holds the body's source back.
    """

    __slots__ = ("_at", "_consumer", "_from_disk", "_growing", "_stop", "length", "live", "paused")

    def __init__(self, growing: Growing) -> None:
        self.length = growing.length
        self.live = False
        self.paused = False
        self._growing = growing
        self._consumer: Consumer | None = None
        self._from_disk: Source | None = None
        self._at = 0
        self._stop = 0

    def start(self, consumer: Consumer) -> None:
        """Push what is here, and the rest as it comes."""
        self._consumer = consumer
        self._catch_up()

    def pause(self) -> None:
        """Hold back what this reader reads from."""
        if self._from_disk is not None:
            self._from_disk.pause()
        elif self.live:
            self.paused = True
            self._growing.steer()

    def resume(self) -> None:
        """Let it come again."""
        if self._from_disk is not None:
            self._from_disk.resume()
        elif self.paused:
            self.paused = False
            self._growing.steer()

    def cancel(self) -> None:
        """Take no more."""
        self._consumer = None
        self.paused = False
        source, self._from_disk = self._from_disk, None
        if source is not None:
            source.cancel()
        self._growing.leave(self)

    def push(self, data: bytes) -> None:
        """Take the next piece, if this one has all that came before it."""
        if self.live and self._consumer is not None:
            self._consumer.feed(data)

    def end(self) -> None:
        """Learn that the body has ended, one way or the other."""
        if self._consumer is not None and (self.live or self._growing.error is not None):
            self._end()

    def _end(self) -> None:
        consumer, self._consumer = self._consumer, None
        source, self._from_disk = self._from_disk, None
        if source is not None:
            source.cancel()
        growing = self._growing
        growing.leave(self)
        if consumer is None:
            return
        if growing.error is not None:
            consumer.abort(growing.error)
        else:
            consumer.finish(growing.trailers)

    def _catch_up(self) -> None:
        """Push what is in memory from here on, or have the disk push what is there."""
        growing = self._growing
        if growing.error is not None:
            self._end()
            return
        pieces = growing.from_memory(self._at)
        if pieces is None:
            found = growing.from_disk(self._at)
            if found is None:
                growing.leave(self)
                if self._consumer is not None:
                    self._consumer.abort(ClientGoneError("what came before is not kept"))
                return
            self._from_disk, self._stop = found
            self._from_disk.start(self)
            return
        self.live = True
        for data in pieces:
            if self._consumer is not None:
                self._consumer.feed(data)
        if growing.ended:
            self.end()

    # From the disk.

    def feed(self, data: bytes) -> None:
        """Pass on what was read."""
        if self._consumer is not None:
            self._consumer.feed(data)

    def finish(self, trailers: Fields | None) -> None:
        """All that was written then has been read; there may be more by now."""
        self._from_disk = None
        self._at = self._stop
        self._catch_up()

    def abort(self, error: Exception) -> None:
        """The disk has failed, or lies."""
        self._from_disk = None
        consumer, self._consumer = self._consumer, None
        self._growing.leave(self)
        if consumer is not None:
            consumer.abort(error)
