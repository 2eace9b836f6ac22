"""Last step: the log line and the figures, and the connection goes on."""

from bisect import bisect_left
from typing import Final

from proxy.observe.figures import DURATIONS_S, FASTEST_S, METHODS, OTHER_METHOD
from proxy.pipeline.exchange import Exchange

# nginx's status for a client that left before its answer; only ever seen in the log.
CLIENT_GONE: Final = 499


def finish(exchange: Exchange) -> None:
    """Log and count the exchange, and give its connection back."""
    if not exchange.inner:
        site, route, request = exchange.site, exchange.route, exchange.request
        response = exchange.response
        status = response.status if response is not None and exchange.sink.began else CLIENT_GONE
        duration_s = exchange.sink.now() - exchange.began_at
        site.access_log.add(
            exchange.client,
            request if request.method else None,
            status,
            exchange.body_bytes,
            duration_s,
            exchange.upstream_s,
            exchange.request_id,
        )
        figures = site.figures if route is None else route.figures
        figures.requests[METHODS.get(request.method, OTHER_METHOD) + status // 100] += 1
        figures.durations[
            0 if duration_s <= FASTEST_S else bisect_left(DURATIONS_S, duration_s)
        ] += 1
        figures.duration_s += duration_s
        figures.sent_bytes += exchange.body_bytes
        if request.body is not None:
            figures.received_bytes += request.body.received
    exchange.sink.exchange_done(exchange)
