"""A body that is kept while it streams: one source, any number of readers at any time.

    upstream ──feed──→ pieces ──→ reader ──→ client
                          │  └──→ reader ──→ client that came later: pieces first, then as it comes
                          └──finish──→ the content of an entry

Up to `limit_bytes` is kept. A body that grows over it goes on to those who read it already, and
nobody else may join. A reader that pauses holds the source back; so behind each stands a spool.
"""

from collections.abc import Callable

from proxy.errors import ClientGoneError
from proxy.message import Consumer, Fields, Source

# Told once, at the end: the whole content, or None when it was too long or broke off.
OnEnd = Callable[[bytes | None, Fields | None], None]
# A body that all have left is taken to its end when most of it is here, or little is missing.
# Squid's quick_abort_pct is 95, its quick_abort_max 16 KB.
WORTH_FINISHING_BYTES = 256 * 1024


class Growing:
    """The Consumer of the upstream's body."""

    __slots__ = (
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
    )

    def __init__(self, source: Source, limit_bytes: int, on_end: OnEnd) -> None:
        self.length = source.length
        self.size_bytes = 0
        self.keeping = source.length is None or source.length <= limit_bytes
        self.ended = False
        self.error: Exception | None = None
        self.trailers: Fields | None = None
        self._source = source
        self._limit_bytes = limit_bytes
        self._on_end = on_end
        self._pieces: list[bytes] = []
        self._readers: list[Reader] = []
        self._paused = False

    @property
    def readers(self) -> int:
        """How many read it."""
        return len(self._readers)

    def worth_finishing(self) -> bool:
        """Whether to go on although nobody reads it: at least half of it is here, or nearly all."""
        if self.length is None or not self.keeping:
            return False
        missing = self.length - self.size_bytes
        return missing <= max(self.size_bytes, WORTH_FINISHING_BYTES)

    def start(self) -> None:
        """Begin to take it from the source."""
        self._source.start(self)

    def reader(self) -> "Reader":
        """Return a source of all of it; only while `keeping`, or before anything came."""
        reader = Reader(self)
        self._readers.append(reader)
        return reader

    def cancel(self) -> None:
        """Give the source up; those who read are told."""
        if not self.ended:
            self._source.cancel()
            self.abort(ClientGoneError("nobody wants it any more"))

    def feed(self, data: bytes) -> None:
        """Keep it, and pass it on to all who read."""
        self.size_bytes += len(data)
        all_read = all(reader.begun for reader in self._readers)
        if self.keeping or not all_read:
            self._pieces.append(data)
        if self.size_bytes > self._limit_bytes:
            self.keeping = False
        for reader in list(self._readers):
            reader.push(data)
        if not self.keeping and all_read:
            self._pieces.clear()

    def finish(self, trailers: Fields | None) -> None:
        """All of it is here."""
        self.ended = True
        self.trailers = trailers
        content = b"".join(self._pieces) if self.keeping else None
        if content is not None:
            self._pieces = [content] if content else []
        readers = list(self._readers)
        self._on_end(content, trailers)
        for reader in readers:
            reader.end()

    def abort(self, error: Exception) -> None:
        """The source broke off: nothing of it is kept."""
        self.ended = True
        self.keeping = False
        self.error = error
        self._pieces.clear()
        readers = list(self._readers)
        self._on_end(None, None)
        for reader in readers:
            reader.end()

    def kept(self) -> list[bytes]:
        """Return what has come so far."""
        return self._pieces

    def leave(self, reader: "Reader") -> None:
        """A reader has gone."""
        if reader in self._readers:
            self._readers.remove(reader)
        if not self._readers and not self.ended and not self.worth_finishing():
            self.cancel()
        else:
            self.steer()

    def steer(self) -> None:
        """Hold the source back while a reader cannot take more."""
        paused = any(reader.paused for reader in self._readers)
        if paused != self._paused and not self.ended:
            self._paused = paused
            if paused:
                self._source.pause()
            else:
                self._source.resume()


class Reader:
    """A Source of a growing body, for one client."""

    __slots__ = ("_consumer", "_growing", "begun", "length", "paused")

    def __init__(self, growing: Growing) -> None:
        self.length = growing.length
        self.begun = False
        self.paused = False
        self._growing = growing
        self._consumer: Consumer | None = None

    def start(self, consumer: Consumer) -> None:
        """Push what is here, and the rest as it comes."""
        self.begun = True
        self._consumer = consumer
        for data in list(self._growing.kept()):
            if self._consumer is None:
                return
            consumer.feed(data)
        if self._growing.ended:
            self.end()

    def pause(self) -> None:
        """Hold the source back."""
        self.paused = True
        self._growing.steer()

    def resume(self) -> None:
        """Let it come again."""
        self.paused = False
        self._growing.steer()

    def cancel(self) -> None:
        """Take no more."""
        self._consumer = None
        self.begun = True
        self.paused = False
        self._growing.leave(self)

    def push(self, data: bytes) -> None:
        """Take the next piece."""
        if self._consumer is not None:
            self._consumer.feed(data)

    def end(self) -> None:
        """Learn that the body has ended, one way or the other."""
        if not self.begun:
            return
        consumer, self._consumer = self._consumer, None
        growing = self._growing
        growing.leave(self)
        if consumer is None:
            return
        if growing.error is not None:
            consumer.abort(growing.error)
        else:
            consumer.finish(growing.trailers)
