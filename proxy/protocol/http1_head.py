"""A request head, from bytes to a Request: parsed, framed, its target understood.

Clients repeat themselves: the heads of a page's pictures differ in one line, those of a script
that polls in none. So what field lines come to is remembered by their bytes, and with the same
lines a request without content by its request line, from the second time on: what is asked for
once costs no memory, however much of it comes.
"""

import re
from itertools import count
from typing import Final

from proxy.errors import HeadersTooLargeError, MethodNotAllowedError
from proxy.message import Fields, Request
from proxy.pipeline.admit import ALLOW
from proxy.recent import Recent
from proxy.rules.framing import request_framing
from proxy.rules.heads import parse_fields, parse_request_line
from proxy.rules.target import as_applications_see, parse_target, read_host

# 1024 times field lines of at most 2 KiB, and what was made of them: 10 MiB of a worker at the very
# most; 4096 requests with a line of at most 512 bytes: as much.
BLOCKS: Final = 1024
BLOCK_BYTES: Final = 2048
REQUESTS: Final = 4096
LINE_BYTES: Final = 512

# The request line of nearly all requests, whose path has nothing to decode nor to resolve.
_PLAIN_LINE: Final = re.compile(
    rb"(?!CONNECT )([!#$%&'*+\-.^_`|~0-9A-Za-z]+) "
    rb"((/[\x21\x22\x24\x26-\x3e\x40-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))?) HTTP/1\.[1-9]"
)
_tags: Final = count()


class Understood:
    """What the field lines of an HTTP/1.1 request come to, whatever it is for.

    `length` is that of the content, or CHUNKED; the rest as in `message.Request`.
    """

    __slots__ = ("authority", "fields", "host", "length", "persistent", "tag")

    def __init__(
        self, fields: Fields, length: int, authority: bytes, host: bytes, persistent: bool
    ) -> None:
        self.fields = fields
        self.length = length
        self.authority = authority
        self.host = host
        self.persistent = persistent
        # What no other has: put behind a request line, it stands for all of a head.
        self.tag = b"\n%x" % next(_tags)


_understood: Final[Recent[bytes, Understood]] = Recent(BLOCKS)
_requests: Final[Recent[bytes, Request]] = Recent(REQUESTS)
# The hashes of what came once.
_seen: Final[Recent[int, bool]] = Recent(REQUESTS)


def read_head(head: bytes, header_count: int) -> tuple[Request, int]:
    """Return the request, which may be shared, and the length of its content, or CHUNKED.

    `head` ends with the empty line. A request with content is never shared. Raises
    BadRequestError, HeadersTooLargeError, MethodNotAllowedError, NotImplementedMethodError,
    VersionError.
    """
    end = head.find(b"\r\n")
    line, block = head[:end], head[end + 2 :]
    known = _understood.get(block)
    if known is not None:
        request = _requests.get(line + known.tag)
        if request is not None:
            return request, 0
    match = _PLAIN_LINE.fullmatch(line)
    path = b"/." if match is None else match[3]
    if match is None or b"/." in path:
        request, known = read_any(line, block, header_count)
    else:
        known = understand(block, 1, header_count)
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
    if not known.length and request.minor_version and end <= LINE_BYTES:
        remember(line + known.tag, request)
    return request, known.length


def remember(name: bytes, request: Request) -> None:
    """Remember a request that came before."""
    number = hash(name)
    if _seen.get(number) is None:
        _seen.add(number, True)
    else:
        _requests.add(name, request)


def read_any(line: bytes, block: bytes, header_count: int) -> tuple[Request, Understood]:
    """Read a request whatever its line says."""
    method, target, minor = parse_request_line(line)
    known = understand(block, minor, header_count)
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
    return request, known


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
        if minor_version and len(block) <= BLOCK_BYTES:
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
