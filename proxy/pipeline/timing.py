"""Where one request's time went, told to its client in Server-Timing, on routes that say so.

    route ──→ timed ──→ the route's own step ──→ … ──→ TimedSink.send ──→ the wire
                │                                           │
             Timing ←── waited for, answered (forward) ─────┘

A route without it runs nothing of this: which steps it has is decided when the configuration is
compiled. What is stored never has these lines, as they are put to an answer on its way out.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from proxy.message import FieldLine, Response
from proxy.pipeline.receive import receive
from proxy.rules import cache_status
from proxy.rules.server_timing import ASK, NAME, PRIVATE, metric

if TYPE_CHECKING:
    from proxy.pipeline.exchange import Exchange, Sink, Step, Wait
    from proxy.pipeline.site import Route

_PRIVATE = PRIVATE.lower()


class Timing:
    """What an exchange has waited for, in seconds; -1 for an upstream that has not answered.

    `accepted_at` is when the request, and its content where that is collected, was here and had a
    route. `told` is what the application, or another worker in its place (`relayed`), has measured.
    """

    __slots__ = ("accepted_at", "connect_s", "queue_s", "relayed", "told", "upstream_s")

    def __init__(self, accepted_at: float) -> None:
        self.accepted_at = accepted_at
        self.queue_s = 0.0
        self.connect_s = 0.0
        self.upstream_s = -1.0
        self.told = b""
        self.relayed = False

    def waited(self, waited_s: float, connect_s: float) -> None:
        """Note that a connection was waited for; `connect_s` of that were spent on opening it."""
        connect_s = min(connect_s, waited_s)
        self.connect_s += connect_s
        self.queue_s += waited_s - connect_s

    def answered(self, upstream_s: float, told: bytes, relayed: bool) -> None:
        """Note how long an upstream took for the head of its answer, and what it says itself."""
        self.upstream_s = upstream_s
        self.told = told
        self.relayed = relayed

    def beyond(self) -> list[bytes]:
        """Return the metrics of what lies behind the cache, none when nobody was asked."""
        if self.relayed:
            return [self.told] if self.told else []
        if self.upstream_s < 0 and not self.queue_s and not self.connect_s:
            return []
        found = [metric(b"queue", self.queue_s), metric(b"connect", self.connect_s)]
        if self.upstream_s >= 0:
            found.append(metric(b"upstream", self.upstream_s))
        return [*found, self.told] if self.told else found


class TimedSink:
    """Implements `exchange.Sink`: puts the metrics to the answer, and passes all else on."""

    __slots__ = ("_exchange", "_sink", "timing")

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange
        self._sink: Sink = exchange.sink
        self.timing = Timing(self._sink.now())

    @property
    def began(self) -> bool:
        """Whether the head of the final response was sent."""
        return self._sink.began

    @property
    def closing(self) -> bool:
        """Whether the connection ends with this exchange."""
        return self._sink.closing

    @closing.setter
    def closing(self, closing: bool) -> None:
        self._sink.closing = closing

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return self._sink.now()

    def inform(self, status: int, fields: list[FieldLine]) -> None:
        """Send an interim response."""
        self._sink.inform(status, fields)

    def send(self, response: Response) -> bool:
        """Send the response with what is known by now; another worker gets it in private."""
        exchange = self._exchange
        if exchange.inside:
            value = b", ".join(self.timing.beyond())
            line = (PRIVATE, value)
        else:
            value = b", ".join(metrics(exchange, response, self.timing, self.now()))
            line = (NAME, value)
        return self._sink.send(with_line(response, line) if value else response)

    async def sent(self) -> None:
        """Wait for the end of the response."""
        await self._sink.sent()

    async def tunnel(self, response: Response, upstream: asyncio.Transport, early: bytes) -> None:
        """Pass bytes both ways; how long that takes is nobody's measure."""
        await self._sink.tunnel(response, upstream, early)

    def exchange_done(self, exchange: "Exchange") -> None:
        """Let the connection go on."""
        exchange.sink = self._sink  # or the two would hold each other
        self._sink.exchange_done(exchange)


def tell_times(route: "Route", *, managed: bool) -> None:
    """Let a route tell; an application that proxyd serves (`managed`) is asked for its share."""
    route.step = timed(route.step)
    route.receive = partial(timed_receive, believed=managed)
    if managed:
        route.private_lines += ((PRIVATE, ASK),)


def timed(step: "Step") -> "Step":
    """Return a step that begins to measure, then goes on with `step`."""

    def begin(exchange: "Exchange") -> "Step":
        if exchange.sink.timing is None:  # a stored answer that is gone leads here once more
            exchange.sink = TimedSink(exchange)
        return step

    return begin


def timed_receive(exchange: "Exchange", *, believed: bool) -> "Step | Wait":
    """Do as `receive` does, and note what the answer took; what others say of it, if `believed`."""
    route, answer, timing = exchange.route, exchange.answer, exchange.sink.timing
    if timing is not None and route is not None and answer is not None:
        told = answer.fields.get(_PRIVATE) if believed else None
        timing.answered(exchange.upstream_s, told or b"", route.inside)
    return receive(exchange)


def metrics(exchange: "Exchange", response: Response, timing: Timing, now: float) -> list[bytes]:
    """Return all metrics of an answer that begins to go out `now`."""
    found = [metric(b"accept", timing.accepted_at - exchange.began_at)]
    beyond = timing.beyond()
    outcome = cache_outcome(exchange, response)
    if outcome:
        is_hit = outcome == b"hit" and not beyond
        found.append(metric(b"cache", now - timing.accepted_at if is_hit else None, outcome))
    return [*found, *beyond, metric(b"total", now - exchange.began_at)]


def cache_outcome(exchange: "Exchange", response: Response) -> bytes:
    """Return what our own cache did, b"" where it was not asked or has nothing to say."""
    if exchange.question is None:
        return b""
    said = [value for name, value in response.fields if name == b"Cache-Status"]
    return cache_status.outcome(said[-1]) if said else b""


def with_line(response: Response, line: FieldLine) -> Response:
    """Return the response with one field line more; others may share the one without."""
    made = Response(
        response.status,
        [*response.fields, line],
        response.body,
        content_length=response.content_length,
        reason=response.reason,
    )
    made.dated = response.dated
    return made
