r"""The access log: one line for each request, in Apache's combined format with timings, or in JSON.

    client - - [time] "GET /path HTTP/1.1" status bytes "referer" "user agent" total upstream id

`total` and `upstream` are seconds with microseconds; "-" stands for what there was not. No request
can forge a line: what is not printable ASCII is written as Apache writes it (\xhh, \n, \", \\).
Requests only append a tuple; formatting and the one write happen in `flush`.
"""

import logging
import re
from typing import Final, Literal

from proxy.clock import Clock
from proxy.message import Request
from proxy.observe.json_lines import json_lines
from proxy.observe.outlet import Outlet

Format = Literal["combined", "json"]
Entry = tuple[
    str,  # client
    str,  # clock.log_time
    Request | None,  # None when it was not understood
    int,  # status
    int,  # bytes sent
    float,  # duration
    float,  # upstream duration, negative when there was none
    bytes,  # request id
]

OFF: Final = "off"

# How much of a log one entry is taken for, when the bound in bytes is made one of entries.
_LINE_BYTES: Final = 256
# Distinct header values whose escaped form is kept; an attacker's random ones only empty the table.
_MEMO_ENTRIES: Final = 4096
_MEMO_VALUE_BYTES: Final = 512

_UNSAFE: Final = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
# As ap_escape_logitem of Apache httpd: these have a letter of their own, the rest is \xhh.
_LETTERS: Final = {
    b'"': rb"\"", b"\\": rb"\\", b"\b": rb"\b", b"\n": rb"\n", b"\r": rb"\r",
    b"\t": rb"\t", b"\v": rb"\v",
}  # fmt: skip

log: Final = logging.getLogger(__name__)


class AccessLog:
    """Collects finished requests and writes them; made once for each worker.

    `path` is a file, "-" for standard output or "off". At most `buffer_bytes` (about) of lines wait
    for `flush`, which the worker's timer calls each second and a full buffer by itself.
    """

    __slots__ = (
        "_clock",
        "_entries",
        "_format_entries",
        "_limit",
        "_lost",
        "_outlet",
        "lost_lines",
    )

    def __init__(self, path: str, format: Format, buffer_bytes: int, clock: Clock) -> None:  # noqa: A002
        """Open the log; raises OSError."""
        self._outlet = None if path == OFF else Outlet(path)
        self._format_entries = json_lines if format == "json" else _combined_lines
        self._limit = max(1, buffer_bytes // _LINE_BYTES)
        self._clock = clock
        self._entries: list[Entry] = []
        self._lost = 0
        self.lost_lines = 0

    def add(
        self,
        client: str,
        request: Request | None,
        status: int,
        sent_bytes: int,
        duration_s: float,
        upstream_s: float,
        request_id: bytes,
    ) -> None:
        """Note one finished exchange; `request` is None when it could not be understood.

        `upstream_s` is negative when no upstream was asked.
        """
        if self._outlet is None:
            return
        entries = self._entries
        entries.append(
            (
                client,
                self._clock.log_time,
                request,
                status,
                sent_bytes,
                duration_s,
                upstream_s,
                request_id,
            )
        )
        if len(entries) >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Write all that was noted; what the log has no room for is lost and counted."""
        entries = self._entries
        if not entries or self._outlet is None:
            return
        self._entries = []
        if not self._outlet.write(self._format_entries(entries)):
            if not self._lost:
                log.warning(
                    "access log: lines are being lost: its disk is full or its reader stalls"
                )
            self._lost += len(entries)
            self.lost_lines += len(entries)
        elif self._lost:
            log.warning("access log: %d lines were lost; it takes lines again", self._lost)
            self._lost = 0

    def reopen(self) -> None:
        """Go on in a new file at the same path (SIGUSR1, after the old one was renamed)."""
        if self._outlet is None:
            return
        self.flush()
        try:
            self._outlet.reopen()
        except OSError as error:
            log.warning("access log: cannot be reopened, the old file goes on: %s", error)

    def close(self) -> None:
        """Write what is left and close; entries added later are dropped."""
        if self._outlet is None:
            return
        self.flush()
        self._outlet.close()
        self._outlet = None


def escape(value: bytes) -> bytes:
    """Make bytes of a request safe inside a quoted string of one line of ASCII."""
    return value if _UNSAFE.search(value) is None else _UNSAFE.sub(_escape_byte, value)


def _escape_byte(match: re.Match[bytes]) -> bytes:
    return _LETTERS.get(match[0]) or b"\\x%02x" % match[0][0]


class _Memo(dict[bytes | None, bytes]):
    """From bytes of a request to what the log says: what many requests share is made once."""

    def __missing__(self, value: bytes | None) -> bytes:
        if value is None:
            return b"-"
        text = escape(value)
        if len(value) <= _MEMO_VALUE_BYTES:
            if len(self) >= _MEMO_ENTRIES:
                self.clear()
            self[value] = text
        return text


class _Clients(dict[str, bytes]):
    """The same for addresses, which are text."""

    def __missing__(self, client: str) -> bytes:
        if len(self) >= _MEMO_ENTRIES:
            self.clear()
        text = self[client] = escape(client.encode("utf-8", "surrogateescape")) or b"-"
        return text


# Each kind has a table of its own. Targets have none: there are so many.
_clients: Final = _Clients()
_values: Final = _Memo()

# One format for all of a line, which costs a fifth of its parts put together one by one.
_LINE: Final = b'%b - - %b "%b %b HTTP/1.%d" %d %d "%b" "%b" %.6f %b %b\n'
_NOT_UNDERSTOOD: Final = b'%b - - %b "-" %d %d "-" "-" %.6f %b %b\n'


def _combined_lines(entries: list[Entry]) -> bytes:
    lines: list[bytes] = []
    append = lines.append
    clients, values = _clients, _values
    time, second = b"", ""
    for client, at, request, status, sent, duration, upstream, request_id in entries:
        if at != second:
            time, second = at.encode(), at
        upstream_text = b"-" if upstream < 0 else b"%.6f" % upstream
        id_text = escape(request_id) if request_id else b"-"
        if request is not None:
            get = request.fields.get
            line = _LINE % (
                clients[client],
                time,
                values[request.method],
                escape(request.target),
                request.minor_version,
                status,
                sent,
                values[get(b"referer")],
                values[get(b"user-agent")],
                duration,
                upstream_text,
                id_text,
            )
        else:
            line = _NOT_UNDERSTOOD % (
                clients[client],
                time,
                status,
                sent,
                duration,
                upstream_text,
                id_text,
            )
        append(line)
    return b"".join(lines)
