"""Bytes on their way from files to the socket of a transport, past its buffer.

The transport's buffer must be empty. When the socket is full, `full` is called, and `room` once it
has room again; a descriptor of our own is watched for that, because event loops let nobody watch
one of theirs.
"""

import asyncio
import os
from collections.abc import Callable

from proxy.message import NO_FILES


def can_send(transport: asyncio.Transport) -> bool:
    """Say whether what is written to `transport` goes to its socket as it is."""
    return (
        hasattr(os, "sendfile")
        and transport.get_extra_info("sslcontext") is None
        and transport.get_extra_info("socket") is not None
    )


class FileSender:
    """The way past one transport's buffer; to be closed before the transport is."""

    __slots__ = ("_full", "_loop", "_room", "_socket", "waiting")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        full: Callable[[], None],
        room: Callable[[], None],
    ) -> None:
        self._socket = os.dup(transport.get_extra_info("socket").fileno())
        self._loop = loop
        self._full = full
        self._room = room
        self.waiting = False

    def send(self, descriptor: int, offset: int, count: int) -> int:
        """Send what the socket takes of a file; returns how much, as `send_file` does.

        NO_FILES on any trouble: with the disk or the client, which those meet who go another way.
        """
        try:
            sent = os.sendfile(self._socket, descriptor, offset, count)
        except BlockingIOError:
            self._wait()
            return 0
        except OSError:
            return NO_FILES
        if 0 < sent < count:
            self._wait()
        return sent

    def _wait(self) -> None:
        self.waiting = True
        self._loop.add_writer(self._socket, self._go_on)
        self._full()

    def _go_on(self) -> None:
        self.waiting = False
        self._loop.remove_writer(self._socket)
        self._room()

    def close(self) -> None:
        """Let go of the socket."""
        if self.waiting:
            self.waiting = False
            self._loop.remove_writer(self._socket)
        os.close(self._socket)
