"""A request head, from bytes to a Request: parsed, framed, its target understood.

Clients repeat themselves: the heads of a page's pictures differ in one line, those of a script
that polls in none. So requests without content are remembered by their bytes, and what field lines
come to by theirs, each kind in a table of its own: of a request line that was never seen only that
line is read, and however many of them come, they put out of memory no more than their own kind.
"""

import re
from typing import Final

from proxy.errors import HeadersTooLargeError, MethodNotAllowedError
from proxy.message import Fields, Request
from proxy.pipeline.admit import ALLOW
from proxy.recent import Recent
from proxy.rules.framing import request_framing
from proxy.rules.heads import parse_fields, parse_request_line
from proxy.rules.target import as_applications_see, parse_target, read_host

# 1024 heads of at most 2 KiB, and what was made of them: 20 MiB of a worker at the very most.
REMEMBERED: Final = 1024
REMEMBERED_BYTES: Final = 2048

# The request line of nearly all requests, whose path has nothing to decode nor to resolve.
_PLAIN_LINE = re.compile(
    rb"(?!CONNECT )([!#$%&'*+\-.^_`|~0-9A-Za-z]+) "
    rb"((/[\x21\x22\x24\x26-\x3e\x40-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))?) HTTP/1\.[1-9]\r\n"
)


class Understood:
    """What the field lines of an HTTP/1.1 request come to, whatever it is for.

    `length` is that of the content, or CHUNKED; the rest as in `message.Request`.
    """

    __slots__ = ("authority", "fields", "host", "length", "persistent")

    def __init__(
        self, fields: Fields, length: int, authority: bytes, host: bytes, persistent: bool
    ) -> None:
        self.fields = fields
        self.length = length
        self.authority = authority
        self.host = host
        self.persistent = persistent


_requests: Recent[bytes, Request] = Recent(REMEMBERED)
_understood: Recent[bytes, Understood] = Recent(REMEMBERED)


def read_head(head: bytes, header_count: int) -> tuple[Request, int]:
    """Return the request, which may be shared, and the length of its content, or CHUNKED.

    `head` ends with the empty line. A request with content is never shared. Raises
    BadRequestError, HeadersTooLargeError, MethodNotAllowedError, NotImplementedMethodError,
    VersionError.
    """
    request = _requests.get(head)
    if request is not None:
        return request, 0
    match = _PLAIN_LINE.match(head)
    path = b"/." if match is None else match[3]
    if match is None or b"/." in path:
        request, length = read_any(head, header_count)
    else:
        known = understand(head[match.end() :], 1, header_count)
        length = known.length
        request = Request(
            match[1],
            match[2],
            1,
            known.fields,
            path,
            match[4],
            known.authority,
            known.host,
            known.persistent,
        )
    if not length and len(head) <= REMEMBERED_BYTES:
        _requests.add(head, request)
    return request, length


def read_any(head: bytes, header_count: int) -> tuple[Request, int]:
    """Do as `read_head`, whatever the request line says, and remember no request."""
    end = head.find(b"\r\n")
    method, target, minor = parse_request_line(head[:end])
    known = understand(head[end + 2 :], minor, header_count)
    if method == b"CONNECT":
        raise MethodNotAllowedError("CONNECT is for forward proxies", ALLOW)
    parsed = parse_target(method, target, known.fields.get_all(b"host"), minor)
    request = Request(
        method,
        target,
        minor,
        known.fields,
        parsed.path,
        parsed.query,
        parsed.authority,
        parsed.host,
        known.persistent,
    )
    request.route_path = as_applications_see(parsed.path)
    return request, known.length


def understand(block: bytes, minor_version: int, header_count: int) -> Understood:
    """Return what field lines come to, which may be shared; those of HTTP/1.1 are remembered.

    Raises BadRequestError, HeadersTooLargeError, NotImplementedMethodError.
    """
    known = _understood.get(block) if minor_version else None
    if known is None:
        fields = parse_fields(block)
        length = request_framing(minor_version, fields)
        authority, host = read_host(fields.get_all(b"host"), minor_version)
        persistent = persists(minor_version, fields.get(b"connection"))
        known = Understood(fields, length, authority, host, persistent)
        if minor_version and len(block) <= REMEMBERED_BYTES:
            _understood.add(block, known)
    if len(known.fields.lines) > header_count:
        raise HeadersTooLargeError(f"{len(known.fields.lines)} field lines")
    return known


def persists(minor_version: int, connection: bytes | None) -> bool:
    """Whether the client wants the connection kept after this request. RFC 9112 §9.3."""
    if connection is None:
        return minor_version > 0
    options = [option.strip(b" \t") for option in connection.lower().split(b",")]
    return b"close" not in options and (minor_version > 0 or b"keep-alive" in options)
