"""Last step: the log line, and the connection goes on."""

from proxy.pipeline.exchange import Exchange

# nginx's status for a client that left before its answer; only ever seen in the log.
CLIENT_GONE = 499


def finish(exchange: Exchange) -> None:
    """Log the exchange and give its connection back."""
    response = exchange.response
    request = exchange.request
    if not exchange.inner:
        exchange.site.access_log.add(
            exchange.client,
            request if request.method else None,
            response.status if response is not None and exchange.sink.began else CLIENT_GONE,
            exchange.body_bytes,
            exchange.sink.now() - exchange.began_at,
            exchange.upstream_s,
            exchange.request_id,
        )
    exchange.sink.exchange_done(exchange)
