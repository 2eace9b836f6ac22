"""Cuts the head and the body of a response out of the bytes of a connection.

Knows no connection, and does no I/O but for `last_reads`. What is wrong with the bytes is raised as
an HttpError.
"""

import asyncio
import os
from collections.abc import Iterator
from typing import Final

from proxy.errors import UpstreamError
from proxy.message import Fields
from proxy.rules.chunked import ChunkedDecoder
from proxy.rules.framing import CHUNKED, UNTIL_CLOSE
from proxy.rules.heads import check_unfinished
from proxy.upstream.options import GroupOptions

HEAD_END: Final = b"\r\n\r\n"
HTTP_1: Final = b"HTTP/1."

# Four times what the event loop reads at once; an error page is smaller.
LAST_READS: Final = 4
LAST_READ_BYTES: Final = 262144


class PartialHead:
    """Holds a response head until its end is there, at most `limit_bytes`."""

    __slots__ = ("_held", "_limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._held = bytearray()
        self._limit_bytes = limit_bytes

    def split(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take the next bytes; return the head and what follows it, None while it is incomplete.

        Raises UpstreamError or BadRequestError as soon as it cannot become a head.
        """
        held = self._held
        if held:
            before = len(held)
            held += data
            end = held.find(HEAD_END, max(before - 3, 0))
            size = len(held) if end < 0 else end + 4
        else:
            end = data.find(HEAD_END)
            size = len(data) if end < 0 else end + 4
        if size > self._limit_bytes:
            raise UpstreamError(
                f"its head has more than {self._limit_bytes} bytes; raise response_header if that"
                " is meant so"
            )
        if end < 0:
            self._keep(data)
            return None
        if held:
            data = bytes(held)
            self._held = bytearray()
        return data[:size], data[size:]

    def _keep(self, data: bytes) -> None:
        held = self._held
        if not held:
            held += data
        if not HTTP_1.startswith(held[: len(HTTP_1)]):
            raise UpstreamError(f"it begins with {bytes(held[:16])!r}")
        fresh = len(held) - len(data)
        begin = max(fresh - 2, 0)
        check_unfinished(bytes(held[begin:]), fresh - begin)


class BodyReader:
    """Reads one body, framed as `rules.framing` said.

    `ended` is set when its last byte is there; `surplus` is then what came behind it. The end of a
    body `until_close` is the end of the connection.
    """

    __slots__ = ("_decoder", "_left", "ended", "surplus", "until_close")

    def __init__(self, length: int, options: GroupOptions) -> None:
        self._decoder = (
            ChunkedDecoder(options.max_chunk_line_bytes, options.max_trailer_bytes)
            if length == CHUNKED
            else None
        )
        self._left = length
        self.until_close = length == UNTIL_CLOSE
        self.ended = False
        self.surplus = b""

    @property
    def trailers(self) -> Fields | None:
        """The trailers of a chunked body that has ended, if it has any. RFC 9112 §7.1.2."""
        return None if self._decoder is None else self._decoder.trailers or None

    def read(self, data: bytes) -> bytes:
        """Return the content in `data`. Raises BadRequestError."""
        if self._decoder is not None:
            pieces, surplus = self._decoder.decode(data)
            if surplus is not None:
                self.ended, self.surplus = True, surplus
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not self.until_close:
            content = data[: self._left]
            self._left -= len(content)
            if self._left == 0:
                self.ended, self.surplus = True, data[len(content) :]
            return content
        return data


def persists(minor_version: int, option: bytes) -> bool:
    """Whether the connection stays open after the response. RFC 9112 §9.3."""
    options = [name.strip(b" \t") for name in option.lower().split(b",")]
    if b"close" in options:
        return False
    return minor_version == 1 or b"keep-alive" in options


def last_reads(transport: asyncio.Transport) -> Iterator[bytes]:
    """Read what a lost connection still holds; b"" is its proper end.

    An upstream that answers and closes before it took the whole request (413, 401) makes a write
    fail, and then the event loop reads no more, though the answer waits in the socket. To be called
    in `connection_lost`, where the transport still owns its descriptor. Of a connection with TLS
    there is nothing to be had: what the socket holds is encrypted.
    """
    if transport.get_extra_info("sslcontext") is not None:
        return
    descriptor = transport.get_extra_info("socket").fileno()
    for _ in range(LAST_READS):
        try:
            data = os.read(descriptor, LAST_READ_BYTES)
        except OSError:
            return
        yield data
        if not data:
            return
