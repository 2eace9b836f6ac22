"""What upstreams are told about a request, what clients are told, and whose word is taken for it.

Pure, but for bounded memories of what was worked out before. Every forwarding field that leaves
proxyd was written by proxyd: an application that believes its only peer believes nothing that a
client made up. RFC 9110 §7.6, RFC 7239.
"""

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from proxy.errors import BadRequestError
from proxy.message import FieldLine, Fields
from proxy.rules.forwarded import (
    MAX_STEPS,
    elements_from_right,
    read_node,
    write_element,
)
from proxy.rules.sendfile import TO_PROXYD
from proxy.rules.target import read_authority

ADDRESSES_REMEMBERED: Final = 4096
ORIGINS_REMEMBERED: Final = 1024
NAMES_REMEMBERED: Final = 1024
NAME_BYTES_REMEMBERED: Final = 64

# RFC 9110 §7.6.1, and what HTTP/1.0 proxies and HTTP/2 upgrades add. Trailer is not among them: it
# goes with the trailers, which are passed on.
HOP_BY_HOP: Final = frozenset(
    b"""
    connection http2-settings keep-alive proxy-authenticate proxy-authentication-info
    proxy-authorization proxy-connection te transfer-encoding upgrade
    """.split()
)

# What nobody may strip by naming it in Connection, since it is for the end, not for the hop
# (RFC 9110 §7.6.1). "Connection: close, X-Forwarded-For" is a known way to lose one's address.
_ESSENTIAL: Final = frozenset(
    b"""
    authorization cache-control content-encoding content-length content-range content-type cookie
    date etag expires forwarded host last-modified location origin set-cookie vary via
    x-real-ip x-request-id
    """.split()
)
_USUAL_CONNECTION: Final = frozenset((b"keep-alive", b"Keep-Alive", b"close", b"Close"))

# What is written anew for every request, here or by the wire; with what says the same in the
# dialect of some server, and `Proxy`, which CGI turns into the variable HTTP_PROXY (httpoxy,
# CVE-2016-5385); and what would make Rack::Sendfile name files to whoever asks.
_REPLACED: Final = frozenset(
    b"""
    content-length expect forwarded front-end-https host proxy via x-accel-mapping x-forwarded-by
    x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto
    x-forwarded-protocol x-forwarded-scheme x-forwarded-server x-forwarded-ssl x-real-ip
    x-proxyd-read-timeout x-proxyd-timing x-proxyd-total-timeout x-request-id x-sendfile-type
    x-url-scheme
    """.split()
)

_VIA: Final = (b"1.0 proxyd", b"1.1 proxyd")  # by the minor version that was received
_DEFAULT_PORT: Final = {b"http": b"80", b"https": b"443"}
# Traefik writes ws and wss for WebSockets.
_SCHEMES: Final = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}
_PORT: Final = re.compile(rb"[1-9][0-9]{0,4}")

# What proxies say of a client that they have recognised: X-Forwarded-User, RFC 9440's Client-Cert,
# our own X-Client-Cert-Subject, and what others' configurations usually call the like.
_ASSERTED: Final = (
    b"x-forwarded-",
    b"client-cert",
    b"x-client-cert",
    b"x-ssl-client",
    b"ssl-client",
)

_PASSED: Final = 0
_PASSED_IF_TRUSTED: Final = 1
_DROPPED: Final = 2


class TrustedNetworks:
    """The peers whose forwarding fields are believed.

    `networks` are in CIDR notation, or "unix:" for every unix socket.
    """

    __slots__ = ("_holds",)

    def __init__(self, networks: Iterable[str]) -> None:
        listed = set(networks)
        unix = "unix:" in listed
        parsed = tuple(ip_network(network) for network in listed - {"unix:"})
        self._holds = lru_cache(ADDRESSES_REMEMBERED)(partial(_holds, parsed, unix))

    def __contains__(self, address: str) -> bool:
        return self._holds(address)


def _holds(networks: tuple[IPv4Network | IPv6Network, ...], unix: bool, text: str) -> bool:
    if text.startswith("unix:"):
        return unix
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


class Origin(NamedTuple):
    """Who asks, and for what, in the client's own terms.

    `client` is an address, or "unix:"; `host` is the authority as the client named it, in lower
    case, b"" when it named none; `port` is the one the client connected to, as far as known.
    """

    client: str
    scheme: bytes
    host: bytes
    port: bytes


class _Told(NamedTuple):
    """What a trusted peer says, not yet found to make sense."""

    client: str
    scheme: bytes | None
    host: bytes | None
    port: bytes | None


def origin(
    peer_address: str,
    peer_trusted: bool,
    scheme: bytes,
    authority: bytes,
    local_port: int,
    fields: Fields,
    trusted: TrustedNetworks,
) -> Origin:
    """Say who asks: the peer, or whom a trusted peer names.

    Never an error: what is malformed is not believed, and the connection's own facts hold. When
    both X-Forwarded-For and Forwarded are there the former is read: nearly every proxy appends to
    it, while few know Forwarded, and most of those that do not pass a client's own one on.
    """
    if not peer_trusted:
        return Origin(peer_address, scheme, authority, _port(scheme, authority, local_port))
    if b"forwarded" in fields and b"x-forwarded-for" not in fields:
        told = _told_by_forwarded(peer_address, fields, trusted)
    else:
        told = _told_by_x_forwarded(peer_address, fields, trusted)
    scheme = _SCHEMES.get((told.scheme or b"").lower(), scheme)
    authority = _believable_authority(told.host) or authority
    port = _port(scheme, authority, local_port)
    if told.port is not None and not _port_of(authority) and _is_port(told.port):
        port = told.port
    return Origin(told.client, scheme, authority, port)


def _told_by_forwarded(client: str, fields: Fields, trusted: TrustedNetworks) -> _Told:
    """Read Forwarded from the right, through trusted hops. RFC 7239 §5.

    The last element read comes from a trusted proxy even when it hides whom it speaks of; its
    host and scheme hold then, and the client is the last one known.
    """
    element: dict[bytes, bytes] = {}
    for element in elements_from_right(fields.get(b"forwarded") or b""):
        address = read_node(element.get(b"for", b""))
        if address is None:
            break
        client = address
        if address not in trusted:
            break
    return _Told(client, element.get(b"proto"), element.get(b"host"), None)


def _told_by_x_forwarded(client: str, fields: Fields, trusted: TrustedNetworks) -> _Told:
    """Read X-Forwarded-For from the right, through trusted hops, and what belongs to its client.

    The other fields are lists where every hop appends, one value where the first hop sets it; a
    list that does not match the chain one to one says nothing for sure.
    """
    chain = fields.get(b"x-forwarded-for") or b""
    hops = 0
    for node in reversed(chain.rsplit(b",", MAX_STEPS)):
        address = read_node(node.strip(b" \t"))
        if address is None:
            break
        client = address
        hops += 1
        if address not in trusted:
            break

    def belonging(name: bytes) -> bytes | None:
        values = (fields.get(name) or b"").split(b",")
        if len(values) == 1:
            return values[0]
        if hops and len(values) == chain.count(b",") + 1:
            return values[-hops].strip(b" \t")
        return None

    return _Told(
        client,
        belonging(b"x-forwarded-proto"),
        belonging(b"x-forwarded-host"),
        belonging(b"x-forwarded-port"),
    )


def _believable_authority(value: bytes | None) -> bytes:
    if not value:
        return b""
    try:
        return read_authority(value)[0]
    except BadRequestError:
        return b""


def _port(scheme: bytes, authority: bytes, local_port: int) -> bytes:
    """Return the port that the client used.

    A client that names a host without a port used the default one, whatever the socket's number
    is: containers and firewalls map ports. A unix socket has the number 0.
    """
    if port := _port_of(authority):
        return port
    return _DEFAULT_PORT[scheme] if authority or not local_port else str(local_port).encode()


def _port_of(authority: bytes) -> bytes:
    _, colon, port = authority.rpartition(b":")
    return port if colon and not port.endswith(b"]") else b""


def _is_port(value: bytes) -> bool:
    return _PORT.fullmatch(value) is not None and int(value) <= 65535


class _Fates(dict[bytes, int]):
    """Which fields of a request go upstream, by name as spelled; worked out once a spelling.

    WSGI, like CGI, turns "-" and "_" into the same "_", so `X_Forwarded_For` would stand beside
    the true one under the same name; it shares its fate.
    """

    def __missing__(self, name: bytes) -> int:
        key = name.lower().replace(b"_", b"-")
        if key in _REPLACED or key in HOP_BY_HOP:
            fate = _DROPPED
        elif key.startswith(_ASSERTED):
            fate = _PASSED_IF_TRUSTED
        else:
            fate = _PASSED
        if len(name) <= NAME_BYTES_REMEMBERED:
            if len(self) >= NAMES_REMEMBERED:
                self.clear()
            self[name] = fate
        return fate


_fates: Final = _Fates()


def request_fields(
    fields: Fields,
    origin: Origin,
    prefix: bytes,
    minor_version: int,
    *,
    authority: bytes,
    peer_trusted: bool,
    identity: tuple[FieldLine, ...] = (),
) -> list[FieldLine]:
    """Return the field lines of a request to an upstream.

    Missing are those of framing and of upgrades, and X-Request-ID, which no two requests share.
    `prefix` is what was taken off the path, b"" when nothing was; `minor_version` is the client's.
    `authority` is what Host says: the request's, so that an absolute target's replaces a Host that
    differs (RFC 9112 §3.2.2). `identity` is what a client's certificate says of it; whatever else
    came under such names is left out then.
    """
    allowed = _PASSED_IF_TRUSTED if peer_trusted else _PASSED
    lines = [(b"Host", authority)]
    lines += [line for line in fields.lines if _fates[line[0]] <= allowed]
    connection = fields.get(b"connection")
    if connection is not None and connection not in _USUAL_CONNECTION:
        named = _named_in_connection(connection)
        lines = [line for line in lines if line[0].lower() not in named]
    if identity:
        lines = [line for line in lines if not _names_client(line[0])]
        lines += identity
    if b"te" in fields and _takes_trailers(fields.get(b"te") or b""):
        # TE is for one hop, and says so. RFC 9110 §10.1.4.
        lines += ((b"TE", b"trailers"), (b"Connection", b"TE"))
    lines += _assertions(origin, prefix)
    lines.append(_via(fields, minor_version))
    return lines


@lru_cache(ORIGINS_REMEMBERED)
def _assertions(origin: Origin, prefix: bytes) -> tuple[FieldLine, ...]:
    client = origin.client.encode()
    lines = [(b"X-Forwarded-For", client)]
    if origin.host:
        lines.append((b"X-Forwarded-Host", origin.host))
    lines += [(b"X-Forwarded-Proto", origin.scheme), (b"X-Forwarded-Port", origin.port)]
    if prefix:
        lines.append((b"X-Forwarded-Prefix", prefix))
    element = write_element(origin.client, origin.host, origin.scheme)
    lines += [(b"X-Real-IP", client), (b"Forwarded", element)]
    return tuple(lines)


def _names_client(name: bytes) -> bool:
    return name.lower().replace(b"_", b"-").startswith((b"client-cert", b"x-client-cert"))


def _takes_trailers(te: bytes) -> bool:
    return b"trailers" in [coding.strip(b" \t") for coding in te.lower().split(b",")]


def _via(fields: Fields, minor_version: int) -> FieldLine:
    """Append this hop to the list of those before it. RFC 9110 §7.6.3."""
    passed = fields.get(b"via")
    here = _VIA[minor_version]
    return (b"Via", passed + b", " + here if passed else here)


def _named_in_connection(value: bytes) -> frozenset[bytes]:
    """Return the fields that Connection says are for this hop, in lower case. RFC 9110 §7.6.1."""
    options = {option.strip(b" \t") for option in value.lower().split(b",")}
    return frozenset(
        option for option in options - _ESSENTIAL if not option.startswith(b"x-forwarded-")
    )


def end_to_end(fields: Fields, drop: frozenset[bytes] = HOP_BY_HOP) -> list[FieldLine]:
    """Return the field lines that go on, in order, without those in `drop`.

    HOP_BY_HOP is to be among them; what Connection names goes as well.
    """
    connection = fields.get(b"connection")
    if connection is not None and connection not in _USUAL_CONNECTION:
        drop |= _named_in_connection(connection)
    return [line for line in fields.lines if line[0].lower() not in drop]


_NOT_FOR_CLIENTS: Final = HOP_BY_HOP | TO_PROXYD | {b"content-length", b"via"}
# By (keep_server, keep_date).
_DROPPED_FROM_RESPONSE: Final = {
    (False, False): _NOT_FOR_CLIENTS | {b"server", b"date"},
    (False, True): _NOT_FOR_CLIENTS | {b"server"},
    (True, False): _NOT_FOR_CLIENTS | {b"date"},
    (True, True): _NOT_FOR_CLIENTS,
}


def response_fields(
    fields: Fields, minor_version: int = 1, *, keep_server: bool = False, keep_date: bool = True
) -> list[FieldLine]:
    """Return the field lines of an upstream's answer as they go to the client, without framing.

    `minor_version` is the upstream's.
    """
    lines = end_to_end(fields, _DROPPED_FROM_RESPONSE[keep_server, keep_date])
    lines.append(_via(fields, minor_version))
    return lines
