"""A body that is kept while it streams: one source, any number of readers at any time.

    upstream ──feed──→ pieces ──→ readers that are here
                │         └─────→ readers that come later, or are slow: what is kept first
                ├──→ memory, up to `limit_bytes` ──finish──→ the content of an entry
                └──→ a writer of the store, for more than that: what it has on the disk is dropped
                     here, and read from there by who needs it

A reader that pauses falls behind, and reads what is kept when it goes on; so nobody waits for
somebody slower. The source is held back only where it would be for nobody: all who read pause, the
disk is behind, or nothing is kept and one of them pauses.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from proxy.cache.entry import Entry
from proxy.cache.store import Writer
from proxy.errors import ClientGoneError, StoredContentError
from proxy.message import Consumer, Fields, Source
from proxy.rules.ranges import Span

# A body that all have left is taken to its end when most of it is here, or little is missing.
# Squid's quick_abort_pct is 95, its quick_abort_max 16 KB.
WORTH_FINISHING_BYTES: Final = 256 * 1024


# Begins to write; is given what to call when the writer takes more.
Begin = Callable[[Callable[[], None]], Writer | None]
# Told once, at the end: the content when it is in memory, and its trailers.
OnEnd = Callable[[bytes | None, Fields | None], None]


class Growing:
    """The Consumer of the upstream's body.

    `keeping` is True while all of it can still be had; `writer` is who has what memory has not.
    `beginning` is what had come into memory when the source broke off.
    """

    __slots__ = (
        "_base",
        "_begin",
        "_behind",
        "_committing",
        "_deserted",
        "_largest_bytes",
        "_limit_bytes",
        "_on_end",
        "_paused",
        "_pieces",
        "_readers",
        "_source",
        "_started",
        "beginning",
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
        self.beginning = b""
        self._source = source
        self._limit_bytes = limit_bytes
        self._largest_bytes = limit_bytes if largest_bytes is None else largest_bytes
        self._on_end = on_end
        self._begin = begin
        self._pieces: deque[bytes] = deque()
        self._base = 0  # where the first piece begins
        self._readers: list[Reader] = []
        self._started = False
        self._deserted = False  # somebody wanted it, and left before it began
        self._paused = False
        self._behind = False  # the writer wants a pause
        self._committing = False  # what the writer has cannot be read back just now
        if source.length is not None and source.length > limit_bytes:
            self._outgrow(source.length)

    def start(self) -> None:
        """Begin to take it from the source, unless all whom it was for have left."""
        self._started = True
        is_for_nobody = self._deserted and not self.worth_finishing()
        if not self._readers and (is_for_nobody or not self.keeping):
            self.cancel()
        else:
            self._source.start(self)

    def reader(self, span: Span | None = None) -> "Reader":
        """Return a source of `span`, of all of it for None; only while it can be joined."""
        reader = Reader(self, span)
        self._readers.append(reader)
        return reader

    def may_be_joined(self) -> bool:
        """Whether all of it can be had by somebody who comes now, and will be kept."""
        return self.keeping and (self.writer is None or not self.writer.gave_up)

    def to_commit(self) -> Writer | None:
        """Return the writer that has all of it, once it has ended well."""
        return self.writer if self.keeping and self.ended and self.error is None else None

    async def commit(self) -> Entry | None:
        """Have the writer make it an entry; None when there is none, or it could not."""
        writer = self.to_commit()
        if writer is None:
            return None
        self._committing = True
        entry = None
        try:
            entry = await writer.commit(self.trailers)
        finally:
            self._committing = False
            self.keeping = entry is not None
            for reader in list(self._readers):
                reader.go_on()
            self._forget()
            self._release()
        return entry

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
                self.keeping = False
            elif self.writer is not None:
                self._write(data)
        for reader in list(self._readers):
            reader.push(data)
        self.caught_up()

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
        """The source broke off: as a whole, nothing of it is kept."""
        self.ended = True
        self.error = error
        if self.keeping and self.writer is None:
            self.beginning = b"".join(self._pieces)
        self.keeping = False
        self._pieces.clear()
        self._on_end(None, None)
        for reader in list(self._readers):
            reader.end()
        self._forget()

    # Between the two.

    def _outgrow(self, size_bytes: int) -> None:
        """Too large for memory: go on in a writer, if there is one for so much."""
        if size_bytes <= self._largest_bytes and self._begin is not None:
            self.writer = self._begin(self._drained)
        if self.writer is None:
            self.keeping = False
        for piece in list(self._pieces):
            self._write(piece)

    def _write(self, data: bytes) -> None:
        writer = self.writer
        if writer is None:
            return
        if not writer.write(data):
            self._behind = True
        if writer.gave_up:  # it stays for those who still read what it has
            self.keeping = False

    def _drained(self) -> None:
        self._behind = False
        self.caught_up()

    def caught_up(self) -> None:
        """The disk, or a reader, has all that has come."""
        self._forget()
        self.steer()

    def _forget(self) -> None:
        """Drop what nobody needs any more: from memory, and of a writer that keeps nothing."""
        writer = self.writer
        if self.keeping:
            needed_from = 0 if writer is None else writer.written_bytes
        else:
            needed_from = min([reader.at for reader in self._readers], default=self.size_bytes)
            if writer is not None and needed_from >= self._base:
                self.writer = None
                writer.abandon()
            elif writer is not None:
                needed_from = self._base
        pieces = self._pieces
        while pieces and self._base + len(pieces[0]) <= needed_from:
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

    def from_disk(self, at: int) -> Source | None:
        """Return a source of what the writer has from `at` on."""
        if self.writer is None:
            return None
        try:
            return self.writer.read_back(Span(at, self.writer.written_bytes))
        except StoredContentError:
            return None

    def is_committing(self) -> bool:
        """Whether what the disk has cannot be read now; readers are told to go on afterwards."""
        return self._committing

    def leave(self, reader: "Reader", *, satisfied: bool = False) -> None:
        """A reader has gone; one that has what it wanted leaves the rest to the store."""
        if reader not in self._readers:
            return
        self._readers.remove(reader)
        if not self._readers and not self.ended and not (satisfied and self.keeping):
            if not self._started:
                self._deserted = True
            elif not self.worth_finishing():
                self.cancel()
                return
        self.caught_up()
        self._release()

    def _release(self) -> None:
        """Let the writer close its file once nobody reads it any more."""
        if self.writer is not None and self.ended and not self._readers:
            self.writer.release()

    def steer(self) -> None:
        """Hold the source back, or let it go on."""
        paused = self._behind or self._is_for_nobody()
        if paused != self._paused and not self.ended:
            self._paused = paused
            if paused:
                self._source.pause()
            else:
                self._source.resume()

    def _is_for_nobody(self) -> bool:
        readers = self._readers
        if not self.keeping:  # what one of them does not take waits in memory
            return any(reader.paused or not reader.live for reader in readers)
        return self.writer is not None and bool(readers) and all(each.paused for each in readers)


class Reader:
    """A Source of a growing body, or of one span of it, for one client.

    `live` says that it has all that came so far, and gets the rest as it comes. Until then it reads
    what is kept: from the disk first, then from memory. `at` is where it reads next.
    """

    __slots__ = (
        "_consumer",
        "_disk",
        "_growing",
        "_stop",
        "at",
        "length",
        "live",
        "paused",
    )

    def __init__(self, growing: Growing, span: Span | None) -> None:
        self.length = growing.length if span is None else span.stop - span.first
        self.at = 0 if span is None else span.first
        self.live = False
        self.paused = False
        self._stop = None if span is None else span.stop
        self._growing = growing
        self._consumer: Consumer | None = None
        self._disk: Source | None = None

    def start(self, consumer: Consumer) -> None:
        """Push what is here, and the rest as it comes."""
        self._consumer = consumer
        self._catch_up()

    def pause(self) -> None:
        """Take no more for now."""
        self.paused = True
        if self._disk is not None:
            self._disk.pause()
        self._growing.steer()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.paused = False
        if self._disk is not None:
            self._disk.resume()
        else:
            self.go_on()
        self._growing.steer()

    def go_on(self) -> None:
        """Read on, if there is something to be read and nothing in the way."""
        if self._consumer is not None and not (self.live or self.paused or self._disk is not None):
            self._catch_up()

    def cancel(self) -> None:
        """Take no more."""
        self._let_go()
        self._growing.leave(self)

    def push(self, data: bytes) -> None:
        """Take the piece that has come, if this one has all that came before it."""
        if self.live and self.paused:
            self.live = False
        elif self.live:
            self._give(data[max(0, self.at - (self._growing.size_bytes - len(data))) :])

    def end(self) -> None:
        """Learn that the body has ended, one way or the other."""
        error = self._growing.error
        if error is None and not self.live:
            return  # there is more to be read
        consumer = self._let_go()
        self._growing.leave(self)
        if consumer is None:
            return
        if error is not None:
            consumer.abort(error)
        else:
            consumer.finish(self._growing.trailers if self._stop is None else None)

    def _let_go(self) -> Consumer | None:
        consumer, self._consumer = self._consumer, None
        source, self._disk = self._disk, None
        self.paused = False
        if source is not None:
            source.cancel()
        return consumer

    def _give(self, data: bytes) -> None:
        """Pass on what lies in the span; behind its end nothing is needed any more."""
        consumer, stop = self._consumer, self._stop
        if stop is not None:
            data = data[: max(0, stop - self.at)]
        if consumer is None or not data:
            return
        self.at += len(data)
        consumer.feed(data)
        if self.at == stop and self._consumer is consumer:
            self._let_go()
            self._growing.leave(self, satisfied=True)
            consumer.finish(None)

    def _catch_up(self) -> None:
        """Push what is in memory from here on, or have the disk push what is there."""
        growing = self._growing
        if growing.error is not None:
            self.end()
            return
        pieces = growing.from_memory(self.at)
        if pieces is None:
            self._read_disk()
            return
        for data in pieces:
            if self.paused or self._consumer is None:
                return
            self._give(data)
        self.live = True
        growing.caught_up()
        if growing.ended and self._consumer is not None:
            self.end()

    # From the disk.

    def _read_disk(self) -> None:
        if self._growing.is_committing():
            return
        self._disk = source = self._growing.from_disk(self.at)
        if source is None:
            self.abort(StoredContentError("what came before is not kept"))
        else:
            if self.paused:
                source.pause()
            source.start(self)

    def feed(self, data: bytes) -> None:
        """Pass on what was read."""
        self._give(data)

    def finish(self, trailers: Fields | None) -> None:
        """All that was written then has been read; there may be more by now."""
        self._disk = None
        self.go_on()

    def abort(self, error: Exception) -> None:
        """The disk has failed, or lies."""
        self._disk = None
        consumer = self._let_go()
        self._growing.leave(self)
        if consumer is not None:
            consumer.abort(error)
