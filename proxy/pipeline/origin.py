"""Who asks: the peer itself, or whom a trusted peer names."""

from proxy.pipeline.exchange import Exchange
from proxy.rules.forwarding import Origin, origin


def origin_of(exchange: Exchange) -> Origin:
    """Return the client as the log and the application shall see it."""
    peer = exchange.peer
    request = exchange.request
    return origin(
        peer.address,
        peer.trusted,
        peer.scheme,
        request.authority,
        peer.local_port,
        request.fields,
        exchange.site.trusted,
    )
