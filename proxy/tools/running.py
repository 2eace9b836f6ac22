"""Runs steps of the pipeline for a tool: what they answer is kept, and goes to no client."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress

from proxy.errors import ClientGoneError, HttpError, UpstreamTimeoutError
from proxy.message import FieldLine, Response
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Peer, Step
from proxy.pipeline.site import Site
from proxy.tools.words import lasting
from proxy.upstream.group import Group

# As the worker's timer: all timeouts of upstream connections hang on it.
SWEEP_S = 0.25


class Kept:
    """Implements `exchange.Sink`: keeps the head of the answer, and lets its content go."""

    timing = None

    def __init__(self) -> None:
        self.began = False
        self.closing = False
        self.response: Response | None = None
        self.done = asyncio.Event()

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    def inform(self, status: int, fields: list[FieldLine]) -> None:
        """Nobody waits for interim responses."""

    def send(self, response: Response) -> bool:
        """Keep the head; whoever makes the content need not go on."""
        self.began = True
        self.response = response
        if response.body is not None and not isinstance(response.body, bytes):
            response.body.cancel()
        return True

    async def sent(self) -> None:
        """Everything has been sent."""

    async def tunnel(self, response: Response, upstream: asyncio.Transport, early: bytes) -> None:
        """Nobody talks through it."""
        self.send(response)
        upstream.abort()
        raise ClientGoneError("a tool wants no tunnel")

    def exchange_done(self, exchange: Exchange) -> None:
        """All steps have been taken."""
        self.done.set()


def exchange_for(site: Site, scheme: bytes, port: int) -> Exchange:
    """Return an exchange of a client on this machine, who is believed if `trusted_proxies` says."""
    address = "127.0.0.1"
    peer = Peer(address, 0, address, port, scheme, address in site.trusted)
    exchange = Exchange(site, Kept(), peer, time.monotonic())
    exchange.inner = True
    return exchange


async def answer_of(
    exchange: Exchange, step: Step, groups: Iterable[Group], patience_s: float
) -> Response | HttpError:
    """Take `exchange` from `step` to its end; return the answer, or why there is none."""
    sink = Kept()
    exchange.sink = sink
    groups = list(groups)
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience_s
    run(exchange, step)
    try:
        while not sink.done.is_set() and loop.time() < give_up_at:
            for group in groups:
                group.sweep(loop.time())
            with suppress(TimeoutError):
                await asyncio.wait_for(sink.done.wait(), SWEEP_S)
        if not sink.done.is_set() and exchange.task is not None:
            exchange.task.cancel()
            return UpstreamTimeoutError(f"no answer within {lasting(patience_s)}")
    finally:
        for group in groups:
            group.close()
    if exchange.failure is not None:
        return exchange.failure
    return sink.response or HttpError("the request ended without an answer")
