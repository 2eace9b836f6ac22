"""Where log lines go: a file, or a pipe, terminal or socket that must never hold the caller up.

A regular file takes one `os.write` for each batch. Anything else may have a reader that stalls, so
it is only written while `poll` says that it has room, and in pieces that a pipe takes whole or not
at all. Standard output and standard error are never set non-blocking: that flag belongs to the open
file, which is shared with the shell and with every process that inherited it.
"""

import os
import select
import stat

# POLLOUT on a pipe promises room for this much, not for more (POSIX: PIPE_BUF; 4096 on Linux).
_PIECE_BYTES = select.PIPE_BUF

STDOUT = "-"
STDERR = "stderr"


class Outlet:
    """One log's way out; `path` is a file, or STDOUT, or STDERR.

    Holds what a stalled reader has not taken: at most the one batch that it stalled in.
    """

    __slots__ = ("_descriptor", "_is_file", "_path", "_pending", "_poll")

    def __init__(self, path: str) -> None:
        """Open the log; raises OSError."""
        self._path = path
        self._pending = b""
        self._open()

    def _open(self) -> None:
        if self._path == STDOUT:
            self._descriptor = 1
        elif self._path == STDERR:
            self._descriptor = 2
        else:
            # O_NONBLOCK is for a FIFO, whose open would wait for a reader.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._descriptor = os.open(self._path, flags, 0o640)
        self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, batch: bytes) -> bool:
        """Take whole lines; False when they are lost: the disk is full, or the reader stalls."""
        try:
            if self._pending:
                self._pending = self._send(self._pending)
            if self._pending:
                return False
            self._pending = self._send(batch)
        except OSError:
            self._pending = b""
            return False
        return True

    def _send(self, data: bytes) -> bytes:
        """Write what goes out without waiting; returns the rest."""
        sent = 0
        with memoryview(data) as view:
            while sent < len(data):
                if self._is_file:
                    sent += os.write(self._descriptor, view[sent:])
                    continue
                if not self._poll.poll(0):
                    break
                try:
                    sent += os.write(self._descriptor, view[sent : sent + _PIECE_BYTES])
                except BlockingIOError:
                    break
        return data[sent:]

    def reopen(self) -> None:
        """Open the path anew after a rotation; raises OSError, and then the old file stays."""
        old = self._descriptor
        if old <= 2:
            return
        self._open()
        os.close(old)

    def close(self) -> None:
        """Write what is still held, if there is room, and let go; later lines are refused."""
        self.write(b"")
        if self._descriptor > 2:
            os.close(self._descriptor)
        self._descriptor = -1
        self._is_file = True
