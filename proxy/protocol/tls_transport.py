"""TLS over a transport of the event loop, from the end of the handshake on.

    socket ⇄ transport of the loop ⇄ TlsTransport ⇄ Http1, or a tunnel

It is the protocol of the one and the transport of the other. Event loops have one of their own,
which costs a small request a seventh more CPU: it asks for more until OpenSSL raises that there is
none, and encrypts at once whatever is written, however slowly the client reads. Here what the
client has no room for stays as it came, so that many who read one stored answer share it.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from proxy.protocol.deadlines import NEVER

if TYPE_CHECKING:
    from proxy.protocol.service import Service

log: Final = logging.getLogger("proxyd.tls")

Piece = bytes | bytearray | memoryview

# What one record holds at most. RFC 8446 §5.1. So much is also given to a memory BIO at once,
# as these keep the memory that they had at their fullest.
RECORD_BYTES: Final = 16 * 1024
# How many are given to the transport below at once: 256 KiB, a sixth less CPU for a file of 1 MB
# than 64; and what is encrypted for a client that does not read.
BATCH_RECORDS: Final = 16
# With what answers to requests for new keys may add to that.
MOST_BYTES: Final = 2 * BATCH_RECORDS * RECORD_BYTES


class TlsTransport:
    """An asyncio.Transport and an asyncio.Protocol, but for the bases that compiled classes lack.

    `below` is the transport with the ciphertext; `incoming` and `outgoing` are what `connection`
    reads from and writes to. Its end is a close_notify and a FIN, upon which the client is heard
    out until its own, for `linger_timeout_s` at most. RFC 8446 §6.1, RFC 9112 §9.6.
    """

    __slots__ = (
        "_below",
        "_closing",
        "_connection",
        "_ended",
        "_full",
        "_held",
        "_held_bytes",
        "_incoming",
        "_moved_at",
        "_outgoing",
        "_protocol",
        "_reading_paused",
        "_records",
        "_service",
        "_told",
        "_unread",
        "bucket",
        "deadline_at",
    )

    def __init__(
        self,
        service: "Service",
        below: asyncio.Transport,
        connection: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self._service = service
        self._below = below
        self._connection = connection
        # The same without a call of Python around each of its own, where there is such an object.
        self._records: Any = getattr(connection, "_sslobj", connection)
        self._incoming = incoming
        self._outgoing = outgoing
        self._protocol: asyncio.Protocol | None = None
        self._held: deque[Piece] = deque()  # some only while `_full`
        self._held_bytes = 0
        self._full = False  # the transport below has enough
        self._told = False  # … and the protocol above knows
        self._reading_paused = False
        self._ended = False  # the client has said that it sends no more
        self._closing = False
        self._unread = 0  # at the end, and when that became less
        self._moved_at = 0.0
        self.deadline_at = NEVER
        self.bucket = NEVER

    # What the transport below says.

    def data_received(self, data: bytes) -> None:
        """Decrypt what came, also before (`incoming`), and pass it on in one piece."""
        if self._closing:
            return  # heard out, see above
        pieces: list[bytes] = []
        if len(data) <= RECORD_BYTES:
            self._incoming.write(data)
            self._decrypt(pieces)
        else:
            view = memoryview(data)
            for start in range(0, len(data), RECORD_BYTES):
                self._incoming.write(view[start : start + RECORD_BYTES])
                self._decrypt(pieces)
        self._pass_on(pieces)

    def _decrypt(self, pieces: list[bytes]) -> None:
        """Append what can be decrypted of what has come."""
        connection = self._records
        incoming = self._incoming
        size = incoming.pending
        try:
            while size and not self._ended:
                # What is decrypted is shorter than what it is decrypted from.
                most = min(size, RECORD_BYTES)
                data = connection.read(most)
                if data:
                    pieces.append(data)
                else:
                    self._ended = True
                # A record that came in parts is longer than its last one, so there may be more of
                # it; and to ask OpenSSL without need is an exception each time.
                size = (len(data) == most and connection.pending()) or incoming.pending
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            log.debug("TLS record that cannot be read: %s", error)
            pieces.clear()  # what they ask for could not be answered any more
            self._ended = True

    def _pass_on(self, pieces: list[bytes]) -> None:
        if self._outgoing.pending:  # an alert, or the answer to a KeyUpdate
            self._below.write(self._outgoing.read())
            if self._full and self._below.get_write_buffer_size() > MOST_BYTES:
                log.debug("a client asks for new keys and reads nothing")
                self.abort()
                return
        protocol = self._protocol
        if pieces and protocol is not None:
            protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._ended:
            self.eof_received()

    def eof_received(self) -> bool:
        """The client has ended its side, with a close_notify or without. RFC 8446 §6.1."""
        self._ended = True
        if not self._closing:
            if self._protocol is not None:
                self._protocol.eof_received()
            self.close()
        return self._held_bytes > 0

    def pause_writing(self) -> None:
        """Hold back what is written."""
        self._full = True
        if not self._told and self._protocol is not None:
            self._told = True
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Encrypt what was held back."""
        self._full = False
        if self._held:
            self._seal()
        if not self._full and self._told and self._protocol is not None:
            self._told = False
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._closing = True
        self._held.clear()
        self._held_bytes = 0
        self._service.deadlines.forget(self)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(exc)

    # What the protocol above asks for.

    def write(self, data: Piece) -> None:
        """Send `data`, now or when the client has room for it."""
        size = len(data)
        if self._closing or not size:
            return
        if self._full or size > RECORD_BYTES:
            self._held.append(data)
            self._held_bytes += size
            self._seal()
            return
        try:
            self._records.write(data)
        except ssl.SSLError:  # pragma: no cover - only after a failure that has ended it
            self.abort()
            return
        self._below.write(self._outgoing.read())

    def writelines(self, pieces: Iterable[Piece]) -> None:
        """Send one after the other."""
        for piece in pieces:
            self.write(piece)

    def _seal(self) -> None:
        """Encrypt what is held, a batch of records at a time, as long as the client has room.

        Some is held. Ends the connection behind it, where that is asked for.
        """
        held = self._held
        while held and not self._full and not self._below.is_closing():
            records: list[bytes] = []
            while held and len(records) < BATCH_RECORDS:
                view = memoryview(held[0])
                piece = view[:RECORD_BYTES]
                try:
                    self._records.write(piece)
                except ssl.SSLError:  # pragma: no cover - as in `write`
                    self.abort()
                    return
                records.append(self._outgoing.read())
                self._held_bytes -= len(piece)
                if len(piece) < len(view):
                    held[0] = view[RECORD_BYTES:]
                else:
                    held.popleft()
            self._below.writelines(records)
        if self._closing and not held:
            self._say_goodbye()

    def close(self) -> None:
        """Send what is written, and end."""
        if self._closing:
            return
        self._closing = True
        if self._reading_paused:  # or the client's end would not be seen
            self._reading_paused = False
            self._below.resume_reading()
        if not self._held:
            self._say_goodbye()
        self._unread = self.get_write_buffer_size()
        self._moved_at = now = self._service.loop.time()
        self._watch(now, self._service.limits.linger_timeout_s)

    def _say_goodbye(self) -> None:
        below = self._below
        if below.is_closing():
            return
        with suppress(ssl.SSLError):  # the client's own is not there yet
            self._connection.unwrap()
        if self._outgoing.pending:
            below.write(self._outgoing.read())
        if self._ended or not below.can_write_eof():
            below.close()
        else:
            below.write_eof()

    def _watch(self, now: float, patience_s: float) -> None:
        """Look again when the time is up, and now and then until then."""
        at = min(self._moved_at + patience_s, now + self._service.limits.linger_timeout_s)
        self._service.deadlines.set(self, at)

    def on_deadline(self, now: float) -> None:
        """End who reads nothing of the rest, or has all of it and does not end."""
        unread = self.get_write_buffer_size()
        if unread < self._unread:
            self._unread = unread
            self._moved_at = now
        limits = self._service.limits
        patience_s = limits.send_timeout_s if unread else limits.linger_timeout_s
        if now < self._moved_at + patience_s:
            self._watch(now, patience_s)
        else:
            self.abort()

    def abort(self) -> None:
        """End at once."""
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        """Say whether it is ending."""
        return self._closing

    def can_write_eof(self) -> bool:
        """Say that one direction cannot be ended: it could in TLS 1.3, not in 1.2."""
        return False

    def pause_reading(self) -> None:
        """Take nothing from the client."""
        if not self._closing:
            self._reading_paused = True
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Take more from the client."""
        if not self._closing:
            self._reading_paused = False
            self._below.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are not with the kernel yet."""
        return self._held_bytes + self._below.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol have what comes."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol | None:
        """Return who has what comes."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of TLS ("ssl_object", "sslcontext"), or of the connection below."""
        if name == "ssl_object":
            return self._connection
        if name == "sslcontext":
            return self._connection.context
        return self._below.get_extra_info(name, default)
