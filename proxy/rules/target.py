"""Reads what a request is for: target and Host. RFC 9112 §3.2, RFC 9110 §4.2, §7.2, RFC 3986.

Pure, but for a bounded memory of the host names seen last. A path has one form from here on, so
that routes, files, caches and upstreams cannot see different resources behind one spelling.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from proxy.errors import BadRequestError

# The longest DNS name has 253 octets (RFC 1035 §2.3.4); nothing longer is kept in memory.
HOST_BYTES: Final = 255
HOSTS_REMEMBERED: Final = 1024

# Printable ASCII: without "%", "?" and "#" a path has nothing to decode; a query may hold all but
# "#". Browsers send "|", "^" and quotes as they are, so these are kept.
_PLAIN: Final = re.compile(rb"(/[\x21\x22\x24\x26-\x3e\x40-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))?")
_ORIGIN: Final = re.compile(rb"(/[\x21\x22\x24-\x3e\x40-\x7e]*)(?:\?([\x21\x22\x24-\x7e]*))?")
_ABSOLUTE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)
_SCHEMES: Final = frozenset((b"http", b"https"))

# Only unreserved characters. RFC 3986 §3.2.2 would allow escapes and delimiters; no name that
# resolves has them, and "a,b" is two hosts to whoever reads X-Forwarded-Host as a list.
_AUTHORITY: Final = re.compile(rb"([a-z0-9\-._~]+|\[[0-9a-f:.]+\])(?::([0-9]{0,5}))?")

_BAD_ESCAPE: Final = re.compile(rb"%(?:00|(?![0-9A-Fa-f]{2}))")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(rb"[A-Za-z0-9\-._~]")
_UNSAFE_IN_NAME: Final = re.compile(rb"%(?:00|2[Ff])|\x00")


class Target(NamedTuple):
    """The parts of a target that was found valid; the first four as in `message.Request`.

    `absolute_scheme` is b"http" or b"https" when the target named one, else None.
    """

    path: bytes
    query: bytes | None
    authority: bytes
    host: bytes
    absolute_scheme: bytes | None


def parse_target(
    method: bytes, target: bytes, host_values: list[bytes], minor_version: int
) -> Target:
    """Read a request target in origin, absolute or asterisk form. RFC 9112 §3.2.

    `host_values` holds the value of each Host line. Raises BadRequestError.
    """
    authority, host = read_host(host_values, minor_version)
    match = _PLAIN.fullmatch(target)
    if match is not None:
        path, query = match.groups()
        if b"/." in path:
            path = _without_dot_segments(path)
        return Target(path, query, authority, host, None)
    if target.startswith(b"/"):
        return Target(*_read_origin_form(target), authority, host, None)
    if target == b"*" and method == b"OPTIONS":
        return Target(b"*", None, authority, host, None)
    return _read_absolute_form(method, target)


@lru_cache(maxsize=HOSTS_REMEMBERED)
def read_authority(value: bytes) -> tuple[bytes, bytes]:
    """Return host[:port] and host, both in lower case, the latter with brackets around IPv6.

    A colon without a port is dropped (RFC 9110 §4.2.3), a default port is not. Raises
    BadRequestError.
    """
    match = _AUTHORITY.fullmatch(value.lower())
    if match is None:
        raise BadRequestError(f"malformed host: {value[:64]!r}")
    host, port = match.groups()
    if len(host) > HOST_BYTES:
        raise BadRequestError(f"a host name of {len(host)} bytes")
    if host.startswith(b"["):
        try:
            IPv6Address(host[1:-1].decode())
        except ValueError:
            raise BadRequestError(f"malformed IPv6 address in host: {value[:64]!r}") from None
    if not port:
        return host, host
    if int(port) > 65535:
        raise BadRequestError(f"malformed port in host: {value[:64]!r}")
    return host + b":" + port, host


def decode_path(path: bytes) -> str | None:
    """Return the file name that a normalised path stands for, None when it cannot be one safely.

    Bytes that are not UTF-8 become surrogates, as in `os.fsdecode`. An encoded slash or NUL, and a
    ".." segment, name no file. A backslash is a character like others on the systems we run on.
    """
    if not path.startswith(b"/") or _UNSAFE_IN_NAME.search(path):
        return None
    if b"%" in path:
        path = _ESCAPE.sub(_octet, path)
    if b"/.." in path and b".." in path.split(b"/"):
        return None
    return path.decode("utf-8", "surrogateescape")


def as_applications_see(path: bytes) -> bytes:
    """Return a normalised path with every escape decoded, which is what routes must judge.

    WSGI decodes all escapes before an application compares, so "/%40admin" and "/@admin" are one
    path to it, and so are "/a%2Fb" and "/a/b".
    """
    if b"%" not in path:
        return path
    path = _ESCAPE.sub(_octet, path)
    return _without_dot_segments(path) if b"/." in path else path


def read_host(values: list[bytes], minor_version: int) -> tuple[bytes, bytes]:
    """Exactly one valid Host, but none or an empty one from HTTP/1.0. RFC 9112 §3.2.

    HTTP/1.1 has an empty Host for targets without an authority only, which http has not.
    """
    if len(values) == 1 and values[0]:
        return read_authority(values[0])
    if len(values) > 1:
        raise BadRequestError("more than one Host")
    if minor_version > 0:
        raise BadRequestError("an empty Host" if values else "no Host")
    return b"", b""


def _read_origin_form(target: bytes) -> tuple[bytes, bytes | None]:
    match = _ORIGIN.fullmatch(target)
    if match is None:
        raise BadRequestError(f"a byte that no target contains: {target[:64]!r}")
    path, query = match.groups()
    return normalise_path(path), query


def _read_absolute_form(method: bytes, target: bytes) -> Target:
    """Read http://host/path; its authority wins over Host. RFC 9112 §3.2.2."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequestError(f"malformed target: {target[:64]!r}")
    scheme, authority, rest = match.groups()
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        raise BadRequestError(f"a target that is not http: {target[:64]!r}")
    # User information is refused as malformed, it disguises hosts. RFC 9110 §4.2.4.
    authority, host = read_authority(authority)
    if not rest and method == b"OPTIONS":
        return Target(b"*", None, authority, host, scheme)  # RFC 9112 §3.2.4
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    return Target(*_read_origin_form(rest), authority, host, scheme)


def normalise_path(path: bytes) -> bytes:
    """Decode unreserved octets, upper-case other escapes, resolve dots. RFC 3986 §6.2.2."""
    if b"%" in path:
        if _BAD_ESCAPE.search(path):
            raise BadRequestError(f"a malformed escape, or NUL, in the path: {path[:64]!r}")
        path = _ESCAPE.sub(_canonical, path)
    return _without_dot_segments(path) if b"/." in path else path


def _without_dot_segments(path: bytes) -> bytes:
    """Resolve "." and ".." without leaving the root; empty segments are kept. RFC 3986 §5.2.4."""
    kept: list[bytes] = []
    segments = path[1:].split(b"/")
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in {b".", b".."}:
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _octet(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))


def _canonical(escape: re.Match[bytes]) -> bytes:
    octet = _octet(escape)
    return octet if _UNRESERVED.fullmatch(octet) else escape[0].upper()
