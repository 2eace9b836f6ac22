"""The answer to an HTTP/1.x client: heads encoded, bodies framed, slow readers waited for.

RFC 9112 §4, §6, §7. One sink lives as long as its connection and serves one exchange after another.
"""

import asyncio
import socket
import struct
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.errors import ClientGoneError
from proxy.message import NO_FILES, NO_LENGTH, FieldLine, Fields, Response, Source
from proxy.protocol.file_sender import FileSender, can_send
from proxy.protocol.tunnel import Tunnel
from proxy.rules.chunked import last_chunk

if TYPE_CHECKING:
    from proxy.pipeline.exchange import Exchange
    from proxy.protocol.http1 import Http1

# Up to here one copy and one buffer are cheaper than two buffers.
JOIN_BYTES: Final = 16 * 1024
NO_CONTENT: Final = frozenset((204, 304))

_HSTS: Final = b"\r\nstrict-transport-security:"
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, _REASONS[status]) for status in _REASONS
}


def status_line(status: int, reason: bytes) -> bytes:
    """Encode a status line; the upstream's own reason is kept. RFC 9112 §4."""
    if not reason or reason == _REASONS.get(status):
        known = _STATUS_LINES.get(status)
        if known is not None:
            return known
    return b"HTTP/1.1 %d %b\r\n" % (status, reason)


def encode_head(response: Response, server_line: bytes) -> bytes:
    """Encode all of a head that does not change from one sending to the next.

    Missing are Date, Connection, a Transfer-Encoding and the empty line.
    """
    steady = response.wire_head.steady
    if steady is None:
        return encode_with(response, response.fields, server_line)
    encoded = steady.encoded
    if encoded is None:
        encoded = steady.encoded = encode_with(response, steady.lines, server_line)
    parts = [encoded]
    for name, value in response.fields[len(steady.lines) :]:
        parts.extend((name, b": ", value, b"\r\n"))
    return b"".join(parts)


def encode_with(response: Response, lines: list[FieldLine], server_line: bytes) -> bytes:
    """Encode the head of a response with `lines` as its fields."""
    parts = [status_line(response.status, response.reason), server_line]
    for name, value in lines:
        parts.extend((name, b": ", value, b"\r\n"))
    body = response.body
    length = response.content_length
    if length is None and response.status not in NO_CONTENT:
        if body is None:
            length = 0
        elif isinstance(body, bytes):
            length = len(body)
        else:
            length = body.length
    # A 204 has none, whatever the upstream said. RFC 9110 §8.6.
    if length is not None and length != NO_LENGTH and response.status != 204:
        parts.append(b"Content-Length: %d\r\n" % length)
    return b"".join(parts)


class Http1Sink:
    """Implements `exchange.Sink`, and is the `FileConsumer` of bodies that stream."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_finished",
        "_mark",
        "_remaining",
        "_sender",
        "_source",
        "_waiter",
        "began",
        "closing",
        "exchange",
        "linger",
        "paused",
        "tunnelled",
    )

    timing = None

    def __init__(self, connection: "Http1") -> None:
        self._connection = connection
        self.exchange: Exchange | None = None
        self.closing = False  # the connection ends with this answer
        self.linger = False  # … and the client may still be sending
        self.paused = False
        self.began = False
        self.tunnelled = False
        self._mark: int | None = None
        self._chunked = False
        self._remaining = -1  # bytes of a streamed body that are still to come; -1 unknown
        self._finished: Exception | bool = True  # False while a body streams
        self._source: Source | None = None
        self._sender: FileSender | None = None  # while a body goes out from files
        self._waiter: asyncio.Future[None] | None = None

    def begin(self, exchange: "Exchange") -> None:
        """A new exchange; decides whether the connection outlives it. RFC 9112 §9.3."""
        self.exchange = exchange
        self.began = False
        if not exchange.request.persistent:
            self.closing = True

    def end(self) -> None:
        """The exchange is over; an answer that is not complete must not look as if it were."""
        if self._finished is False:
            self._break(ClientGoneError("the answer was given up"))
        elif self._source is not None:  # never begun
            self._source.cancel()
            self._source = None
        self.exchange = None
        self._mark = None

    # From the steps.

    def now(self) -> float:
        """Return the monotonic time in seconds; finer than the loop's milliseconds."""
        return monotonic()

    def inform(self, status: int, fields: list[FieldLine]) -> None:
        """Send an interim response; HTTP/1.0 clients get none. RFC 9110 §15.2."""
        exchange = self.exchange
        transport = self._connection.transport
        if exchange is None or self.began or not exchange.request.minor_version:
            return
        if transport.is_closing():
            return
        lines = [b"%b: %b\r\n" % line for line in fields]
        transport.write(b"".join((status_line(status, b""), *lines, b"\r\n")))

    def send(self, response: Response) -> bool:
        """Send head and body; True when all of it is with the transport."""
        connection = self._connection
        exchange = self.exchange
        transport = connection.transport
        body = response.body
        if body is not None and not isinstance(body, bytes):
            self._source = body  # from here on `end` sees to it
        if exchange is None or transport.is_closing():
            raise ClientGoneError("the client left before its answer")
        request = exchange.request
        service = connection.service
        if connection.body is not None and not connection.body.soon_over():
            self.closing = self.linger = True
        if service.draining and not connection.buffer:  # what is here already is answered
            self.closing = self.linger = True
        wire_head = response.wire_head
        head = wire_head.encoded
        if head is None:
            head = wire_head.encoded = encode_head(response, exchange.site.server_line)
        self.began = True
        date = b"" if response.dated else service.clock.date_line
        hsts_line = exchange.peer.entrance.hsts_line
        if hsts_line and _HSTS not in head.lower():  # RFC 6797 §7.1: no more than one
            date += hsts_line
        if request.method == b"HEAD" or response.status in NO_CONTENT:
            if self._source is not None:
                self._source.cancel()
                self._source = None
            body = b""
        if body is None or isinstance(body, bytes):
            self._send_whole(head, date, body or b"", request.minor_version)
            exchange.body_bytes = len(body) if body else 0
            return True
        return self._stream(head, date, body, request.minor_version)

    def _connection_line(self, minor_version: int) -> bytes:
        if self.closing:
            return b"Connection: close\r\n\r\n"
        return b"\r\n" if minor_version else b"Connection: keep-alive\r\n\r\n"

    def _send_whole(self, head: bytes, date: bytes, body: bytes, minor_version: int) -> None:
        transport = self._connection.transport
        line = self._connection_line(minor_version)
        if len(body) <= JOIN_BYTES:
            transport.write(b"".join((head, date, line, body)))
        else:
            transport.writelines((b"".join((head, date, line)), body))

    def _stream(self, head: bytes, date: bytes, body: Source, minor_version: int) -> bool:
        self._finished = False
        self._chunked = False
        self._remaining = -1
        framing = b""
        if body.length is not None:
            self._remaining = body.length
        elif minor_version:
            self._chunked = True
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            self.closing = True
        line = self._connection_line(minor_version)
        self._connection.transport.write(b"".join((head, date, framing, line)))
        if self.paused:
            body.pause()
        body.start(self)
        if isinstance(self._finished, Exception):
            raise self._finished
        return self._finished

    async def sent(self) -> None:
        """Wait for the end of a streamed response."""
        if self._finished is False:
            self._waiter = self._connection.service.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if isinstance(self._finished, Exception):
            raise self._finished

    async def tunnel(self, response: Response, upstream: asyncio.Transport, early: bytes) -> None:
        """Send the 101, then pass bytes both ways until both sides have ended."""
        connection = self._connection
        exchange = self.exchange
        if exchange is None or connection.transport.is_closing():
            upstream.abort()
            raise ClientGoneError("the client left before its upgrade")
        service = connection.service
        connection.pause_reading()
        self.began = self.closing = self.tunnelled = True
        head = encode_head(response, b"")
        date = b"" if response.dated else service.clock.date_line
        connection.transport.write(b"".join((head, date, b"Connection: upgrade\r\n\r\n")))
        ahead, connection.buffer = connection.buffer, b""
        tunnel = Tunnel(service, exchange.site.tunnel_timeout_s)
        tunnel.join(connection.transport, upstream, ahead, early)
        if self.paused:
            upstream.pause_reading()
        try:
            await tunnel.closed
        finally:
            tunnel.close()
            exchange.body_bytes = tunnel.sent

    def exchange_done(self, exchange: "Exchange") -> None:
        """Let the connection go on."""
        self._connection.exchange_done()

    # From the body.

    def feed(self, data: bytes) -> None:
        """Pass on a piece of the body."""
        size = len(data)
        transport = self._connection.transport
        if self._chunked:
            if size <= JOIN_BYTES:
                transport.write(b"%x\r\n%b\r\n" % (size, data))
            else:
                transport.writelines((b"%x\r\n" % size, data, b"\r\n"))
        else:
            if self._remaining >= 0:
                self._remaining -= size
                if self._remaining < 0:
                    self._break(ValueError("the body is longer than it said"))
                    return
            transport.write(data)
        if self.exchange is not None:
            self.exchange.body_bytes += size

    def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Pass on a piece of the body from a file, as long as it goes out as it is."""
        transport = self._connection.transport
        if self._remaining < count or transport.is_closing():
            return NO_FILES
        sender = self._sender
        if sender is None:
            if not can_send(transport):
                return NO_FILES
            connection = self._connection
            try:
                sender = FileSender(
                    transport,
                    connection.service.loop,
                    connection.pause_writing,
                    connection.resume_writing,
                )
            except OSError:  # no descriptor is left
                return NO_FILES
            self._sender = sender
            # From here on the transport says so when it holds something, and when it does no more.
            transport.set_write_buffer_limits(0)
        if self.paused:
            return 0
        if transport.get_write_buffer_size():
            return NO_FILES
        sent = sender.send(descriptor, offset, count)
        if sent > 0:
            self._remaining -= sent
            if self.exchange is not None:
                self.exchange.body_bytes += sent
        return sent

    def _drop_sender(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()
            transport = self._connection.transport
            if not transport.is_closing():
                transport.set_write_buffer_limits()

    def finish(self, trailers: Fields | None) -> None:
        """The body is complete."""
        if self._remaining > 0:
            self._break(ValueError("the body is shorter than it said"))
            return
        if self._chunked:
            self._connection.transport.write(last_chunk(trailers))
        self._source = None
        self._settle(True)

    def abort(self, error: Exception) -> None:
        """The body broke off: the client must not take it for complete. RFC 9112 §8."""
        self._source = None
        self._break(error)

    def _break(self, error: Exception) -> None:
        if self._source is not None:
            self._source.cancel()
            self._source = None
        self._drop_sender()
        transport = self._connection.transport
        self.closing = True
        if self._until_the_end():
            reset(transport)
        else:
            transport.close()  # what has come is still read, and its framing shows the gap
        self._settle(error)

    def _until_the_end(self) -> bool:
        """Whether a body is under way that the connection's end would end. RFC 9112 §6.3."""
        return self._finished is False and not self._chunked and self._remaining < 0

    def _settle(self, outcome: Exception | bool) -> None:
        self._finished = outcome
        self._drop_sender()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # From the connection.

    def client_left(self) -> None:
        """Nobody reads any more."""
        source, self._source = self._source, None
        if source is not None:
            source.cancel()
            transport = self._connection.transport
            if self._until_the_end() and not transport.is_closing():
                reset(transport)  # it has ended its own side only, and may still be reading
            self._settle(ClientGoneError("the client left in the middle of its answer"))

    def pause(self) -> None:
        """The transport holds enough."""
        self.paused = True
        if self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        """The transport has room again."""
        self.paused = False
        if self._source is not None:
            self._source.resume()

    def unsent(self) -> int:
        """Return how many bytes the transport still holds; some, while a file's wait for room."""
        held = self._connection.transport.get_write_buffer_size()
        return held or (self._sender is not None and self._sender.waiting)

    def mark(self) -> None:
        """Remember how much is unsent."""
        self._mark = self.unsent() - self._progress()

    def stalled(self) -> bool:
        """Whether the client has read nothing since `mark`."""
        return self._mark is not None and self.unsent() - self._progress() >= self._mark

    def _progress(self) -> int:
        return self.exchange.body_bytes if self.exchange is not None else 0


def reset(transport: asyncio.Transport) -> None:
    """End a connection whose end would otherwise be that of a body. RFC 9112 §8.

    With SO_LINGER on and no time, closing is a reset, which no client takes for an end.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
