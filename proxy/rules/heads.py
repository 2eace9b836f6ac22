"""Reads the head of a message: start line and field lines, strictly. RFC 9112 §2 to §5.

Pure. Heads come whole (up to and including the empty line); who feeds them has found the end.

The field lines are read by llhttp in its strict mode (bare CR or LF, folded lines, a space before
the colon, control bytes, doubled or malformed Content-Length are refused), the start lines by one
regular expression each: llhttp knows a fixed list of methods, and any token must pass. Every head
is given to llhttp behind the start line of a 304 response, which by definition ends with its
head; so one parser serves all connections and never waits for a body. Framing is decided in
`framing`, from the fields.
"""

import re
from typing import Final, NamedTuple

import httptools

from proxy.errors import BadRequestError, VersionError
from proxy.message import FieldLine, Fields

REQUEST_LINE: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])"
)
OTHER_VERSION: Final = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e]+ HTTP/[02-9](\.[0-9])?"
)
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
# What no head contains: a control byte, a CR without LF, an LF without CR. The last byte may be a
# CR whose LF is still under way.
IMPOSSIBLE: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")


class ResponseHead(NamedTuple):
    """The start line and fields of a response."""

    minor_version: int
    status: int
    reason: bytes
    fields: Fields


class _Collector:
    """Takes llhttp's events of one head."""

    __slots__ = ("complete", "lines")

    def __init__(self) -> None:
        self.lines: list[FieldLine] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the white space behind the value. RFC 9112 §5.1.
        if value and value[-1] <= 0x20:
            value = value.rstrip(b" \t")
        self.lines.append((name, value))

    def on_message_complete(self) -> None:
        self.complete = True


_KEPT_ALIVE: Final = frozenset((None, b"keep-alive", b"Keep-Alive"))
_START: Final = b"HTTP/1.1 304 \r\n"
_collector: Final = _Collector()
_parser = httptools.HttpResponseParser(_collector)


def parse_fields(block: bytes) -> Fields:
    """Read field lines, each ended by CRLF, and the empty line behind the last.

    Raises BadRequestError.
    """
    global _parser  # noqa: PLW0603 - one parser for the process, renewed when it has stopped
    lines: list[FieldLine] = []
    _collector.lines = lines
    _collector.complete = False
    try:
        _parser.feed_data(_START + block)
    except httptools.HttpParserError as error:
        _parser = httptools.HttpResponseParser(_collector)
        raise BadRequestError(f"malformed field lines: {error}") from None
    if not _collector.complete:
        _parser = httptools.HttpResponseParser(_collector)
        raise BadRequestError("malformed field lines: they end too early")
    fields = Fields(lines)
    # After "Connection: close" llhttp takes no other message; it means Proxy-Connection as well.
    if fields.get(b"connection") not in _KEPT_ALIVE or b"proxy-connection" in fields:
        _parser = httptools.HttpResponseParser(_collector)
    return fields


def parse_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Return method, target and minor version. RFC 9112 §3.

    Raises BadRequestError, and VersionError for a version that is not 1.x (an HTTP/2 preface).
    """
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        if OTHER_VERSION.fullmatch(line):
            raise VersionError(f"the request is not HTTP/1: {line[:64]!r}")
        raise BadRequestError(f"malformed request line: {line[:64]!r}")
    method, target, minor = match.groups()
    return method, target, 1 if minor != b"0" else 0


def parse_response_head(head: bytes) -> ResponseHead:
    """Read a whole response head. Raises BadRequestError. RFC 9112 §4."""
    end = head.find(b"\r\n")
    match = STATUS_LINE.fullmatch(head[:end])
    if match is None:
        raise BadRequestError(f"malformed status line: {head[: min(end, 64)]!r}")
    minor, status, reason = match.groups()
    fields = parse_fields(head[end + 2 :])
    return ResponseHead(1 if minor != b"0" else 0, int(status), reason or b"", fields)


def check_unfinished(data: bytes, start: int) -> None:
    """Refuse what cannot become a head any more, so that nobody waits for its end.

    `data` is the beginning of a head, of which the bytes before `start` were checked already.
    Raises BadRequestError.
    """
    found = IMPOSSIBLE.search(data, max(start - 1, 0))
    if found is not None:
        raise BadRequestError(f"a byte that no request head contains: {found.group()!r}")
