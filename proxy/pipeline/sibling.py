"""What workers ask of one another: a key has one worker that fetches it for all of them.

    client ──→ worker 2: nothing stored ──→ worker 1, whose key it is ──→ upstream

So however many clients ask for one thing, on however many workers, it is asked for once. A worker
asks as the client did, over the private socket of the other, and says who the client is in a field
that counts there and nowhere else.
"""

from collections.abc import Sequence
from zlib import crc32

import msgspec

from proxy.errors import BadRequestError
from proxy.message import FieldLine, Fields, Request
from proxy.pipeline.exchange import Exchange, Peer
from proxy.pipeline.site import Route
from proxy.rules.forwarding import HOP_BY_HOP, Origin, end_to_end

# An interim status that no RFC has: the answer that was waited for is one client's own, so the next
# one, which comes behind this, will hardly be for all. Vary says by what clients are told apart.
NOT_SHARED = 199
FIELD = b"Proxyd-Asker"
_NAME = FIELD.lower()
_HOST = HOP_BY_HOP | {b"host", _NAME}


class Asker(msgspec.Struct, frozen=True, array_like=True):
    """A client as its own worker knows it; see `exchange.Peer`."""

    address: str
    port: int
    local_address: str
    local_port: int
    scheme: bytes
    trusted: bool
    client: str
    certificate: tuple[FieldLine, ...]
    origin: Origin | None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Asker)


class Siblings:
    """The workers of one generation, each with the route that leads to it; None is this one."""

    __slots__ = ("_routes",)

    def __init__(self, routes: Sequence[Route | None]) -> None:
        self._routes = routes

    def route_for(self, key: bytes) -> Route | None:
        """Return the way to the worker whose key it is, None when that is this one."""
        return self._routes[crc32(key) % len(self._routes)]


def asked_inside(exchange: Exchange, request: Request) -> Request:
    """Return `request` as it is sent to another worker on behalf of the client of `exchange`."""
    peer = exchange.peer
    asker = Asker(
        peer.address,
        peer.port,
        peer.local_address,
        peer.local_port,
        peer.scheme,
        peer.trusted,
        exchange.client,
        peer.certificate,
        exchange.origin,
    )
    lines = [
        (b"Host", request.authority),
        *end_to_end(request.fields, _HOST),
        (FIELD, _encoder.encode(asker)),
    ]
    return with_fields(request, lines)


def arrive(exchange: Exchange) -> None:
    """Let a request from another worker be that of the client that it is for.

    Raises BadRequestError for what no worker has sent.
    """
    request = exchange.request
    try:
        asker = _decoder.decode(request.fields.get(_NAME) or b"")
    except msgspec.DecodeError as error:
        raise BadRequestError(f"no request of a worker: {error}") from None
    peer = Peer(
        asker.address,
        asker.port,
        asker.local_address,
        asker.local_port,
        asker.scheme,
        asker.trusted,
    )
    peer.certificate = asker.certificate
    exchange.peer = peer
    exchange.client = asker.client
    exchange.origin = asker.origin
    exchange.inner = exchange.inside = True
    exchange.request = with_fields(request, [line for line in request.fields if line[0] != FIELD])


def not_shared(names: tuple[bytes, ...]) -> list[FieldLine]:
    """Return the fields of a NOT_SHARED."""
    return [(b"Vary", b", ".join(names))]


def told_apart(lines: list[FieldLine]) -> tuple[bytes, ...]:
    """Undo `not_shared`."""
    value = Fields(lines).get(b"vary")
    return tuple(value.split(b", ")) if value else ()


def with_fields(request: Request, lines: list[FieldLine]) -> Request:
    """Return the same request with other fields."""
    other = Request(
        request.method,
        request.target,
        1,
        Fields(lines),
        request.path,
        request.query,
        request.authority,
        request.host,
    )
    other.route_path = request.route_path
    return other
