"""The error log: what went wrong, in which process, and what to do; one line for each record.

    2026-11-22 16:29:49.123 +0000 WARNING worker 1: timeline: cannot connect …

Everything goes through the standard library's `logging`, under the root logger. A record never
makes a second line that looks like a first: control characters are escaped, and the lines of a
traceback are indented behind a bar. Writing never waits for a reader that stalls (see outlet.py).
"""

import logging
import time
import traceback
from typing import Literal

from proxy.observe.outlet import Outlet

Level = Literal["debug", "info", "warning", "error"]

# More than any message of ours; what a client or an application can put into one is bounded by it.
_MESSAGE_CHARACTERS = 16 * 1024
_INDENT = "    | "

_relayed = logging.getLogger("proxy.relayed")

# Libraries whose "info" is of no use to the person who runs proxyd.
_QUIET = ("asyncio", "aiofiles", "hpack")


class ErrorLog(logging.Handler):
    """Writes records of one process to a file or to standard error.

    `process` is how its lines name it: "master", "worker 1". A record may name another one in its
    attribute `source` ("app timeline").
    """

    def __init__(self, path: str, process: str) -> None:
        """Open the log; `path` is a file, or "stderr"; raises OSError."""
        super().__init__()
        self._outlet = Outlet(path)
        self._process = process
        self._second = 0
        self._second_text = ""
        self._zone = ""
        self.lost_records = 0
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; it is lost, and counted, when the log cannot take it."""
        try:
            text = self.format(record)
        except Exception:  # a wrong format string must not stop a server
            self.handleError(record)
            return
        if self._lost:
            text = f"{self._head(record)} {self._lost} records were lost before this one\n{text}"
        if self._outlet.write(text.encode("utf-8", "backslashreplace")):
            self._lost = 0
        else:
            self._lost += 1
            self.lost_records += 1

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, and the lines of its traceback, each with its line feed."""
        message = printable(record.getMessage())
        lines = [f"{self._head(record)} {message[:_MESSAGE_CHARACTERS]}"]
        if record.exc_info and record.exc_info[1] is not None:
            for part in traceback.format_exception(record.exc_info[1]):
                lines += [_INDENT + printable(line) for line in part.rstrip("\n").split("\n")]
        return "\n".join(lines) + "\n"

    def _head(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            local = time.localtime(second)
            self._second = second
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", local)
            self._zone = time.strftime("%z", local)
        source = getattr(record, "source", self._process)
        return (
            f"{self._second_text}.{int(record.msecs):03d} {self._zone} {record.levelname} {source}:"
        )

    def reopen(self) -> None:
        """Go on in a new file at the same path (SIGUSR1, after the old one was renamed)."""
        self.acquire()
        try:
            self._outlet.reopen()
        finally:
            self.release()

    def close(self) -> None:
        """Write what is left and close."""
        self._outlet.close()
        super().close()


def printable(text: str) -> str:
    r"""Escape all that is not printable (\n, \x1b, \u202e), but for the tab."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character == "\t"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def configure(path: str, process: str, level: Level = "info") -> ErrorLog:
    """Make `path` the log of this process, for every logger in it; raises OSError."""
    handler = ErrorLog(path, process)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    return handler


def relay(source: str, line: str) -> None:
    """Log one line that another process wrote, under that process's name."""
    _relayed.info("%s", line, extra={"source": source})
