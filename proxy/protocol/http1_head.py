"""A request head, from bytes to a Request: parsed, framed, its target understood.

Clients repeat themselves: the heads of a page's pictures differ in one line, those of a script
that polls in none. So requests without content are remembered by their bytes, and so are the field
lines alone, each in a table that is emptied when it is full: a client that never repeats itself
costs the others no more than that.
"""

from typing import Final

from proxy.errors import HeadersTooLargeError, MethodNotAllowedError
from proxy.message import Fields, Request
from proxy.pipeline.admit import ALLOW
from proxy.rules.framing import request_framing
from proxy.rules.heads import parse_fields, parse_request_line
from proxy.rules.target import as_applications_see, parse_target

# 1024 heads of at most 2 KiB, and what was made of them: 20 MiB of a worker at the very most.
REMEMBERED: Final = 1024
REMEMBERED_BYTES: Final = 2048

_remembered: dict[bytes, Request] = {}
_remembered_fields: dict[bytes, Fields] = {}


def read_head(head: bytes, header_count: int) -> tuple[Request, int]:
    """Return the request, which may be shared, and the length of its content, or CHUNKED.

    `head` ends with the empty line. A request with content is never shared. Raises
    BadRequestError, HeadersTooLargeError, MethodNotAllowedError, NotImplementedMethodError,
    VersionError.
    """
    request = _remembered.get(head)
    if request is not None:
        return request, 0
    end = head.find(b"\r\n")
    method, target, minor = parse_request_line(head[:end])
    fields = read_fields(head[end + 2 :])
    if len(fields.lines) > header_count:
        raise HeadersTooLargeError(f"{len(fields.lines)} field lines")
    if method == b"CONNECT":
        raise MethodNotAllowedError("CONNECT is for forward proxies", ALLOW)
    length = request_framing(minor, fields)
    parsed = parse_target(method, target, fields.get_all(b"host"), minor)
    request = Request(
        method,
        target,
        minor,
        fields,
        parsed.path,
        parsed.query,
        parsed.authority,
        parsed.host,
        persists(minor, fields.get(b"connection")),
    )
    request.route_path = as_applications_see(parsed.path)
    if not length and len(head) <= REMEMBERED_BYTES:
        if len(_remembered) >= REMEMBERED:
            _remembered.clear()
        _remembered[head] = request
    return request, length


def read_fields(block: bytes) -> Fields:
    """Return the field lines, which may be shared. Raises BadRequestError."""
    fields = _remembered_fields.get(block)
    if fields is None:
        fields = parse_fields(block)
        if len(block) <= REMEMBERED_BYTES:
            if len(_remembered_fields) >= REMEMBERED:
                _remembered_fields.clear()
            _remembered_fields[block] = fields
    return fields


def persists(minor_version: int, connection: bytes | None) -> bool:
    """Whether the client wants the connection kept after this request. RFC 9112 §9.3."""
    if connection is None:
        return minor_version > 0
    options = [option.strip(b" \t") for option in connection.lower().split(b",")]
    return b"close" not in options and (minor_version > 0 or b"keep-alive" in options)
