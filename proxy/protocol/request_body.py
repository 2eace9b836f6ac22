"""The content of a request while it comes from the client: counted, decoded, kept or passed on.

Until a step asks for it nothing is read beyond what came with the head. `collect` takes all of it
(memory first, then a temporary file), so that a slow client never holds an upstream; iterating
without it passes the pieces on as they come. Either way a bounded amount is in memory.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import aiofiles.tempfile

from proxy.errors import (
    ClientGoneError,
    ContentTooLargeError,
    HttpError,
    InsufficientStorageError,
)
from proxy.message import Fields
from proxy.rules.chunked import ChunkedDecoder
from proxy.rules.framing import CHUNKED

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

    from proxy.protocol.http1 import Http1

# nginx's client_body_buffer_size is 16 KiB; 64 KiB is one full read of the transport.
MEMORY_BYTES = 64 * 1024
FILE_READ_BYTES = 256 * 1024
# What may come while the file is being written: few large writes cost less than many small ones.
BACKLOG_BYTES = 512 * 1024

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

ResultT = TypeVar("ResultT")


class IncomingBody:
    """Implements `message.RequestBody` for HTTP/1."""

    __slots__ = (
        "_connection",
        "_decoder",
        "_discarded",
        "_error",
        "_file",
        "_held",
        "_pieces",
        "_remaining",
        "_waiter",
        "_wants_continue",
        "collected",
        "complete",
        "length",
        "limit_bytes",
        "received",
    )

    def __init__(
        self, connection: "Http1", length: int, fields: Fields, minor_version: int
    ) -> None:
        limits = connection.service.limits
        self._connection = connection
        self._decoder = (
            ChunkedDecoder(limits.chunk_line_bytes, limits.trailer_bytes)
            if length == CHUNKED
            else None
        )
        self.length: int | None = None if length == CHUNKED else length
        self._remaining = max(length, 0)
        self.limit_bytes = 0
        self.received = 0
        self.complete = False
        self.collected = False
        self._discarded = False
        self._pieces: list[bytes] = []
        self._held = 0  # bytes in _pieces
        self._file: AsyncFileIO | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        expect = fields.get(b"expect")
        self._wants_continue = minor_version > 0 and expect is not None

    # From the connection.

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes from the wire; return those behind the end, None while it has not come.

        Raises BadRequestError on a malformed chunk.
        """
        self._wants_continue = False
        rest: bytes | None = None
        if self._decoder is not None:
            pieces, rest = self._decoder.decode(data)
            for piece in pieces:
                self._keep(piece)
        else:
            size = len(data)
            if size < self._remaining:
                self._remaining -= size
                self._keep(data)
            else:
                self._keep(data[: self._remaining])
                rest = data[self._remaining :]
                self._remaining = 0
        if rest is not None:
            self.complete = True
            self.length = self.received
        elif self._held > (MEMORY_BYTES if self._file is None else BACKLOG_BYTES):
            self._connection.pause_reading()
        self._wake()
        return rest

    def _keep(self, piece: bytes) -> None:
        self.received += len(piece)
        if self._discarded:
            return
        self._pieces.append(piece)
        self._held += len(piece)

    def soon_over(self) -> bool:
        """Whether the rest is so little, and so sure to come, that the connection is worth it."""
        return not self._wants_continue and 0 < self._remaining <= MEMORY_BYTES

    def discard(self) -> None:
        """Nobody will read it: throw away what has come and what comes."""
        self._discarded = True
        self._pieces.clear()
        self._held = 0
        self._connection.resume_reading()

    @property
    def error(self) -> Exception | None:
        """Why the rest will not come."""
        return self._error

    def fail(self, error: HttpError) -> None:
        """The rest will not come, or cannot be read."""
        self._error = error
        self._wake()

    def client_left(self) -> None:
        """The connection is gone."""
        self._error = self._error or ClientGoneError("the client left while it was sending")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # From the steps.

    @property
    def trailers(self) -> Fields:
        """The trailer fields of a chunked body, once it is complete."""
        return self._decoder.trailers if self._decoder is not None else Fields()

    def in_memory(self) -> bytes | None:
        """Return the whole content when it is complete and small, else None."""
        if not self.complete or self._file is not None:
            return None
        if self.limit_bytes < self.received:
            return None
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def collect(self) -> None:
        """Take the whole content from the client before anybody else sees it."""
        self._want()
        while not self.complete:
            if self._held > MEMORY_BYTES:
                self._check()
                await self._spill()
            else:
                await self._more()
        self._check()
        if self._file is not None and self._pieces:
            await self._spill()
        self.collected = True

    async def _spill(self) -> None:
        """Move what is in memory to the file, and let the client go on."""
        folder = self._connection.service.site.temp_folder
        left = memoryview(b"".join(self._pieces))
        self._pieces.clear()
        self._held = 0
        self._connection.resume_reading()
        try:
            await undisturbed(self._write(left, folder))
        except OSError as error:
            kind = InsufficientStorageError if error.errno in FULL else HttpError
            raise kind(f"the content cannot be kept in a file in {folder}: {error}") from None

    async def _write(self, left: memoryview, folder: str | None) -> None:
        if self._file is None:
            opening = aiofiles.tempfile.TemporaryFile("w+b", buffering=0, dir=folder)
            self._file = await opening.__aenter__()
        while left:
            left = left[await self._file.write(left) :]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._file is not None:
            await undisturbed(self._file.seek(0))
            while data := await undisturbed(self._file.read(FILE_READ_BYTES)):
                yield data
            return
        if self.collected:
            for piece in self._pieces:
                yield piece
            return
        self._want()
        while True:
            self._check()
            if self._pieces:
                data = b"".join(self._pieces)
                self._pieces.clear()
                self._held = 0
                yield data
                self._connection.resume_reading()
            elif self.complete:
                return
            else:
                await self._more()

    def _want(self) -> None:
        """The content is asked for: tell a client that waits for it. RFC 9110 §10.1.1."""
        self._check()
        if self._wants_continue and not self.complete:
            self._wants_continue = False
            self._connection.sink.inform(100, [])
        self._connection.resume_reading()

    async def _more(self) -> None:
        self._check()
        self._waiter = self._connection.service.loop.create_future()
        await self._waiter
        self._waiter = None
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self.received > self.limit_bytes:
            raise ContentTooLargeError(f"the content is over {self.limit_bytes} bytes")

    async def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            file, self._file = self._file, None
            await undisturbed(file.close())
        self._pieces.clear()


async def undisturbed(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await `work` on a file to its end, even when the client leaves meanwhile.

    A thread cannot be called back: a file that it opens would stay open, one that is closed beside
    it could be another one by the time that it writes.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    if cancelled and task.exception() is None:
        raise asyncio.CancelledError
    return task.result()
