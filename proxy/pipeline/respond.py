"""The step that sends the answer, whole or as it comes."""

from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.finish import finish


def respond(exchange: Exchange) -> "Step | Wait":
    """Hand `exchange.response` to the wire protocol."""
    if exchange.response is None:
        raise RuntimeError("respond without a response")
    if exchange.sink.send(exchange.response):
        return finish
    return Wait(streamed(exchange))


async def streamed(exchange: Exchange) -> Step:
    """Wait until the rest has gone out."""
    await exchange.sink.sent()
    return finish
