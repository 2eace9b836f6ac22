"""Second step: the first route that matches answers."""

from collections.abc import Sequence

from proxy.errors import ContentTooLargeError, NotFoundError
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.site import Route


class Routed:
    """Which of `among` a request went to that may come again; a reload makes others."""

    __slots__ = ("among", "route")

    def __init__(self, among: Sequence[Route], route: Route) -> None:
        self.among = among
        self.route = route


def route(exchange: Exchange) -> Step:
    """Choose the route, and refuse content that is over its limit before any of it is read."""
    request = exchange.request
    known = request.routed
    if isinstance(known, Routed) and known.among is exchange.site.routes:
        exchange.route = known.route
        return known.route.step
    host = request.host
    path = request.route_path
    for candidate in exchange.site.routes:
        if candidate.matches(host, path):
            exchange.route = candidate
            if path is not request.path and not candidate.holds(request.path):
                raise NotFoundError("the prefix of the route is written with escapes")
            body = request.body
            if body is not None:
                body.limit_bytes = candidate.body_limit
                if body.length is not None and body.length > candidate.body_limit:
                    raise ContentTooLargeError(
                        f"{body.length} bytes of content; {candidate.name} takes at most "
                        f"{candidate.body_limit} (body_limit)"
                    )
            else:
                request.routed = Routed(exchange.site.routes, candidate)
            return candidate.step
    raise NotFoundError("no route matches")
