"""One response of an upstream, as the connection gives it to whoever forwards it."""

from typing import Protocol

from proxy.message import Consumer, Fields
from proxy.upstream.response_head import ReadHead


class Wire(Protocol):
    """What a streamed body asks of its connection."""

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""

    def resume_reading(self) -> None:
        """Go on reading."""

    def close(self) -> None:
        """Give up the rest of the response."""


class ResponseBody:
    """The Source of a body that had not arrived completely with its head.

    Belongs to one response and lets go of the connection at its end, so that nobody who still holds
    it can touch the connection's next request. What arrives before `start` is held: bounded by two
    reads of the event loop, 256 KB each on uvloop.
    """

    __slots__ = (
        "_consumer",
        "_ended",
        "_error",
        "_held",
        "_paused",
        "_trailers",
        "_wire",
        "length",
    )

    def __init__(self, wire: Wire, length: int | None, held: bytes) -> None:
        self.length = length
        self._wire: Wire | None = wire
        self._consumer: Consumer | None = None
        self._held = held
        self._paused = False
        self._ended = False
        self._trailers: Fields | None = None
        self._error: Exception | None = None

    def start(self, consumer: Consumer) -> None:
        """Push what has arrived into `consumer`, and the rest as it comes."""
        self._consumer = consumer
        if self._held:
            held, self._held = self._held, b""
            consumer.feed(held)
        if self._error is not None:
            self.fail(self._error)
        elif self._ended:
            self.end(self._trailers)
        elif self._wire is not None and not self._paused:
            self._wire.resume_reading()

    def pause(self) -> None:
        """Push nothing until `resume`; what was read already still comes."""
        self._paused = True
        if self._wire is not None:
            self._wire.pause_reading()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        if self._wire is not None:
            self._wire.resume_reading()

    def cancel(self) -> None:
        """Give the response up; its connection is closed unless the response was complete."""
        wire, self._wire, self._consumer, self._held = self._wire, None, None, b""
        if wire is not None:
            wire.close()

    def push(self, data: bytes) -> None:
        """Take the next decoded bytes from the connection."""
        if self._consumer is not None:
            self._consumer.feed(data)
        elif self._wire is not None:
            self._held += data
            self._wire.pause_reading()

    def end(self, trailers: Fields | None) -> None:
        """Take the end from the connection, which goes its own way from here."""
        self._wire = None
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            self._ended, self._trailers = True, trailers
        else:
            consumer.finish(trailers)

    def fail(self, error: Exception) -> None:
        """Take the failure of the connection."""
        self._wire = None
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            self._error = error
        else:
            consumer.abort(error)


class UpstreamResponse:
    """A final response.

    `body` is None where there is none by definition (HEAD, 204, 304, 101), bytes when all of it
    arrived together with the head, otherwise a Source that must be started or cancelled. `trailers`
    belong to a body in bytes; a streamed one gives them at its end. `fields` are as received,
    hop-by-hop fields included. `upgraded` says that the connection waits for `detach`. `head` is
    what all of this was read from.
    """

    __slots__ = (
        "body",
        "fields",
        "head",
        "minor_version",
        "reason",
        "status",
        "trailers",
        "upgraded",
    )

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        status: int,
        reason: bytes,
        fields: Fields,
        body: "bytes | ResponseBody | None",
        minor_version: int = 1,
        trailers: Fields | None = None,
        upgraded: bool = False,
        head: ReadHead | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.body = body
        self.minor_version = minor_version
        self.trailers = trailers
        self.upgraded = upgraded
        self.head = head
