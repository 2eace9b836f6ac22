"""Which stored answers a change may have made wrong. Pure. RFC 9111 §4.4."""

import re
from urllib.parse import urljoin

from proxy.errors import BadRequestError
from proxy.message import Fields
from proxy.rules.target import parse_target

# The safe methods of the IANA registry; one whose safety is unknown is unsafe. RFC 9111 §4.4.
SAFE_METHODS = frozenset(
    (b"GET", b"HEAD", b"OPTIONS", b"PRI", b"PROPFIND", b"REPORT", b"SEARCH", b"TRACE")
)

_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


def invalidated_targets(
    method: bytes,
    status: int,
    scheme: bytes,
    authority: bytes,
    target: tuple[bytes, bytes | None],
    fields: Fields,
) -> list[tuple[bytes, bytes | None]]:
    """Return path and query of every resource whose stored answers are invalid from now on.

    `target` is the request's own path and query, normalised, and comes first; what Location and
    Content-Location name follows when it is of the same origin, as `target` would spell it. Empty
    for safe methods and for errors. RFC 9111 §4.4.
    """
    if method in SAFE_METHODS or not 200 <= status < 400:
        return []
    targets = [target]
    path, query = target
    base = b"%b://%b%b" % (scheme, authority, path)
    if query is not None:
        base += b"?" + query
    origin = _origin(scheme, authority)
    for name in (b"location", b"content-location"):
        for value in fields.get_all(name):
            named = _resolve(base, value, origin)
            if named is not None and named not in targets:
                targets.append(named)
    return targets


def _resolve(base: bytes, reference: bytes, origin: bytes) -> tuple[bytes, bytes | None] | None:
    """Resolve a reference as clients would request it; None when it leaves the origin.

    Raw octets above ASCII become escapes, as in browsers (WHATWG URL §1.3).
    """
    reference = _NOT_ASCII.sub(lambda match: b"%%%02X" % match[0][0], reference.partition(b"#")[0])
    try:
        absolute = urljoin(base.decode("ascii"), reference.decode("ascii")).encode("ascii")
        named = parse_target(b"GET", absolute, [], 0)
    except (BadRequestError, ValueError):
        return None
    if named.absolute_scheme is None or _origin(named.absolute_scheme, named.authority) != origin:
        return None
    return named.path, named.query


def _origin(scheme: bytes, authority: bytes) -> bytes:
    """Write an origin so that equal ones are equal: no default port. RFC 9110 §4.3.1."""
    return scheme + b"://" + authority.removesuffix(_DEFAULT_PORTS.get(scheme, b""))
