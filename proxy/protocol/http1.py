"""HTTP/1.x from a client: bytes in, exchanges out, one after the other. RFC 9112.

What the connection is doing:

    head ──head complete──→ exchange ──answered──→ head (idle when nothing has come yet)
      │                        │
      │                        ├─ the request's content not read ─→ linger ─→ closed
      │                        └─ 101 ─→ tunnel (another protocol has the transport)
      └─ malformed, too large, too slow ─→ exchange that fails ─→ linger ─→ closed

Requests that come before their predecessor is answered wait as bytes, up to a bound; so answers
are in order by construction.
"""

import asyncio
import re
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from proxy.errors import (
    BadRequestError,
    HeadersTooLargeError,
    HttpError,
    RequestTimeoutError,
    TargetTooLongError,
)
from proxy.message import Fields, Request
from proxy.pipeline.admit import admit
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Peer
from proxy.pipeline.fail import fail
from proxy.protocol.deadlines import NEVER
from proxy.protocol.http1_head import read_head
from proxy.protocol.http1_sink import Http1Sink
from proxy.protocol.peer import peer_of
from proxy.protocol.request_body import IncomingBody
from proxy.rules.heads import check_unfinished, parse_request_line

if TYPE_CHECKING:
    from proxy.protocol.service import Service

_NO_FIELDS: Final = Fields()
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
# A client that keeps sending while it is told that it must not is heard up to this much, so that
# it reads the answer instead of a reset. RFC 9112 §9.6.
LINGER_BYTES: Final = 16 * 1024 * 1024
# How long a silent connection is kept when the worker ends: its next request may be on its way, and
# is answered with "Connection: close". nginx closes at once and loses it, Envoy takes its time.
IDLE_LINGER_S: Final = 1.0
# How many pipelined requests are answered before other connections have their turn.
TURNS: Final = 32


class Http1:
    """One client connection: an asyncio.Protocol but for the base, which compiled classes lack."""

    __slots__ = (
        "body",
        "bucket",
        "buffer",
        "deadline_at",
        "eof",
        "exchange",
        "left",
        "lingered",
        "peer",
        "reading_paused",
        "running",
        "scanned",
        "service",
        "sink",
        "transport",
    )

    transport: asyncio.Transport

    peer: Peer

    def __init__(self, service: "Service", peer: Peer | None = None) -> None:
        self.service = service
        if peer is not None:
            self.peer = peer  # somebody before us has said who it is
        self.buffer = b""
        self.scanned = 0  # bytes of the buffer that are known to hold no end of a head
        self.exchange: Exchange | None = None
        self.body: IncomingBody | None = None
        self.running = False
        self.reading_paused = False
        self.eof = False
        self.left = False
        self.lingered = -1  # bytes thrown away since the answer; -1 while not lingering
        self.deadline_at = NEVER
        self.bucket = NEVER
        self.sink = Http1Sink(self)

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a first request."""
        self.transport = transport  # type: ignore[assignment]
        service = self.service
        if not hasattr(self, "peer"):
            self.peer = peer_of(service.site.trusted, transport)
        if not service.make_room():
            self.transport.abort()
            return
        service.accepted += 1
        service.connections.add(self)
        service.idle[self] = None
        service.deadlines.set(self, service.loop.time() + service.limits.header_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head, of a body, of a request to come, or to be thrown away."""
        if self.lingered >= 0:
            self.lingered += len(data)
            if self.lingered > LINGER_BYTES:
                self.transport.abort()
        elif self.body is not None:
            self._feed_body(data)
        else:
            self.buffer = self.buffer + data if self.buffer else data
            if self.exchange is None and not self.sink.paused:
                self.next_request()
            elif len(self.buffer) > self.service.limits.pipeline_bytes:
                self.pause_reading()

    def eof_received(self) -> bool:
        """Say whether the transport shall stay open for writing.

        A browser that leaves and a script that has shut its sending side look the same. Answers
        from files are finished; a request that is with an upstream is given up, as nginx does.
        """
        self.eof = True
        exchange = self.exchange
        if exchange is None:
            # What was asked before is answered when the client has read what it was sent.
            return bool(self.buffer) and self.sink.paused and self.transport.can_write_eof()
        if self.body is not None or exchange.upstream_name:
            self._client_left()
            return False
        return self.transport.can_write_eof()  # over TLS there is no staying open

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything."""
        self.eof = True
        self.service.forget(self)
        self.service.deadlines.forget(self)
        self._client_left()

    def pause_writing(self) -> None:
        """Hold the body back: the client reads slower than it comes."""
        self.sink.pause()
        self.watch_writing(self.service.loop.time())

    def resume_writing(self) -> None:
        """Go on with the body, or with the next request."""
        self.sink.resume()
        if self.exchange is None and not self.sink.closing and not self.transport.is_closing():
            self.await_head()
            self.next_request()

    # The way of a request.

    def next_request(self) -> None:
        """Begin the exchanges that the buffer holds, as long as each is answered at once."""
        if self.running or self.transport.is_closing():
            return
        self.running = True
        turns = TURNS
        try:
            while (
                self.buffer
                and self.exchange is None
                and self.body is None
                and not self.sink.closing  # what comes behind the last answer is not read. §9.6
                and not self.sink.paused
                and self._begin()
            ):
                turns -= 1
                if not turns:
                    self.pause_reading()
                    self.service.loop.call_soon(self.next_request)
                    return
        finally:
            self.running = False
        if self.exchange is None and self.lingered < 0 and not self.sink.paused:
            if self.eof and self.body is None:
                self._close()  # the rest of that head will not come
            else:
                self.resume_reading()

    def _begin(self) -> bool:
        """Begin one exchange; False when its head is not complete."""
        buffer = self.buffer
        if buffer.startswith(b"\r\n"):
            # Empty lines before a request line are forgiven. RFC 9112 §2.2.
            self.buffer = _EMPTY_LINES.sub(b"", buffer, count=1)
            self.scanned = 0
            return True
        end = buffer.find(b"\r\n\r\n", self.scanned - 3 if self.scanned > 3 else 0)
        service = self.service
        service.idle.pop(self, None)
        exchange = Exchange(service.site, self.sink, self.peer, monotonic())
        try:
            if end < 0:
                self._check_unfinished(buffer)
                return False
            limits = service.limits
            if end > limits.request_line_bytes or end > limits.header_bytes:
                self._check_size(buffer, end)
            request, length = read_head(buffer[: end + 4], limits.header_count)
        except HttpError as error:
            self._fail(exchange, error)
            return True
        self.exchange = exchange
        exchange.request = request
        self.scanned = 0
        self.sink.begin(exchange)
        self.deadline_at = NEVER
        rest = buffer[end + 4 :]
        if length:
            self.buffer = b""
            self.body = body = IncomingBody(self, length, request.fields, request.minor_version)
            request.body = body
            service.deadlines.set(self, service.loop.time() + service.limits.body_timeout_s)
            if rest:
                self._feed_body(rest)
            if isinstance(body.error, HttpError):
                exchange.failure = body.error
                run(exchange, fail)
                return True
        else:
            self.buffer = rest
        run(exchange, admit)
        return True

    def _check_size(self, buffer: bytes, end: int) -> None:
        limits = self.service.limits
        line = buffer.find(b"\r\n", 0, end + 2)
        if line > limits.request_line_bytes:
            raise TargetTooLongError(f"a request line of {line} bytes")
        if end - line > limits.header_bytes:
            raise HeadersTooLargeError(f"field lines of {end - line} bytes")

    def _check_unfinished(self, buffer: bytes) -> None:
        """Refuse at once what no further byte can make right."""
        limits = self.service.limits
        check_unfinished(buffer, self.scanned)
        line = buffer.find(b"\r\n")
        if line < 0:
            if len(buffer) > limits.request_line_bytes:
                raise TargetTooLongError(
                    f"a request line of over {limits.request_line_bytes} bytes"
                )
        elif self.scanned <= line + 1:
            self._check_size(buffer, len(buffer))
            parse_request_line(buffer[:line])
        elif len(buffer) - line > limits.header_bytes:
            raise HeadersTooLargeError(f"field lines of over {limits.header_bytes} bytes")
        if self.scanned == 0:
            # By then all of the head must have come, as with Apache's RequestReadTimeout.
            now = self.service.loop.time()
            self.service.deadlines.set(self, now + limits.header_timeout_s)
        self.scanned = len(buffer)

    def _feed_body(self, data: bytes) -> None:
        body = self.body
        if body is None:
            return
        service = self.service
        try:
            rest = body.feed(data)
        except BadRequestError as error:
            self._give_up_body(body, error)
            return
        if rest is None:
            if not self.reading_paused:
                service.deadlines.set(self, service.loop.time() + service.limits.body_timeout_s)
            return
        self.body = None
        self.deadline_at = NEVER
        self.buffer = rest
        if self.exchange is None:  # the answer did not need it
            self.await_head()
            self.next_request()

    def _give_up_body(self, body: IncomingBody, error: HttpError) -> None:
        """Nobody knows where the content ends: whatever is answered, it is the last answer."""
        self.body = None
        self.deadline_at = NEVER
        self.sink.closing = True
        self.sink.linger = True
        body.fail(error)

    def _fail(self, exchange: Exchange, error: HttpError) -> None:
        """Answer what could not be read as a request; nothing after it can be trusted."""
        exchange.request = Request(b"", b"", 1, _NO_FIELDS, b"", None, b"", b"")
        exchange.failure = error
        self.exchange = exchange
        self.buffer = b""
        self.sink.begin(exchange)
        self.sink.closing = True
        self.sink.linger = True
        run(exchange, fail)

    def exchange_done(self) -> None:
        """The exchange was answered and logged."""
        self.exchange = None
        self.sink.end()
        if self.sink.tunnelled:
            self.connection_lost(None)  # the tunnel had the transport, and heard of its end
            return
        if self.transport.is_closing():  # broken off, or the client has left
            self._close()
            return
        if self.sink.closing:
            self._finish_connection()
            return
        if self.body is not None:
            self.body.discard()
            return
        if self.sink.paused:
            self.watch_writing(self.service.loop.time())
            return
        self.await_head()
        if not self.running:
            self.next_request()

    def await_head(self) -> None:
        """Count as idle from now on; or end, when no other request is to be answered."""
        service = self.service
        if self.eof and not self.buffer:
            self._close()
            return
        service.idle[self] = None
        if service.draining:
            self.await_last_head()
            return
        service.deadlines.set(self, service.loop.time() + service.limits.keepalive_timeout_s)

    def _finish_connection(self) -> None:
        """Close, and hear the client out when it may still be sending. RFC 9112 §9.6."""
        transport = self.transport
        # TLS ends in both directions by itself, and throws away what comes meanwhile.
        if (
            self.eof
            or (self.body is None and not self.sink.linger)
            or not transport.can_write_eof()
        ):
            self._close()
            return
        self.body = None
        self.buffer = b""
        self.lingered = 0
        self.resume_reading()
        transport.write_eof()
        service = self.service
        service.deadlines.set(self, service.loop.time() + service.limits.linger_timeout_s)

    def _close(self) -> None:
        """Close when all is sent; who reads nothing of it is not waited for."""
        self.buffer = b""
        if self.sink.unsent():
            self.watch_writing(self.service.loop.time())
        self.transport.close()

    def _client_left(self) -> None:
        body, self.body = self.body, None
        exchange = self.exchange
        if exchange is None or self.left:
            return
        self.left = True  # once: another cancellation would disturb the end of the task
        if body is not None:
            body.client_left()
        self.sink.client_left()
        if exchange.task is not None:
            # Not at once: a task that is cancelled before it began never runs, nor ends.
            self.service.loop.call_soon(exchange.task.cancel)

    # Time.

    def on_deadline(self, now: float) -> None:
        """A head, a body, a reader or a lingering client took too long."""
        if self.sink.unsent() and (self.lingered < 0 or self.transport.is_closing()):
            if self.sink.stalled():
                self.transport.abort()
            else:
                self.watch_writing(now)
            return
        if self.body is not None and self.exchange is not None:
            error = RequestTimeoutError("no progress in sending the request's content")
            self._give_up_body(self.body, error)
        elif self.exchange is not None:
            return
        elif self.buffer and self.lingered < 0:
            exchange = Exchange(self.service.site, self.sink, self.peer, monotonic())
            self._fail(exchange, RequestTimeoutError("no complete head in time"))
        else:
            self._close()

    def watch_writing(self, now: float) -> None:
        """Give the client its time to read something."""
        self.sink.mark()
        service = self.service
        service.deadlines.set(self, now + service.limits.send_timeout_s)

    # Used by the body, the sink and the service.

    def pause_reading(self) -> None:
        """Let the client wait; the kernel's window tells it so."""
        if not self.reading_paused and not self.transport.is_closing():
            self.reading_paused = True
            self.transport.pause_reading()
            if self.body is not None:
                self.deadline_at = NEVER  # it is we who are slow

    def resume_reading(self) -> None:
        """Take more from the client."""
        if self.reading_paused and not self.transport.is_closing():
            self.reading_paused = False
            self.transport.resume_reading()
            if self.body is not None:
                service = self.service
                service.deadlines.set(self, service.loop.time() + service.limits.body_timeout_s)

    def await_last_head(self) -> None:
        """Close soon, unless a request was on its way already."""
        service = self.service
        at = service.loop.time() + IDLE_LINGER_S
        service.deadlines.set(self, min(self.deadline_at, at))

    def close_idle(self) -> None:
        """Close a connection that waits for its next request."""
        self.service.idle.pop(self, None)
        self.transport.close()

    def abort(self) -> None:
        """End the connection whatever it is doing."""
        self.transport.abort()


def as_protocol(connection: Http1) -> asyncio.Protocol:
    """Return the connection as event loops take it, by its methods."""
    return cast("asyncio.Protocol", connection)
