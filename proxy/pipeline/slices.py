"""Large objects in slices: each is fetched by range, and stored by a key of its own.

    client ──bytes=0-──→ sliced ──→ slice 3: an exchange of its own ──→ look ──→ hit, or Fetch
                            ↑          slice 4: …
                            └── what the client wants of each, in order, as one answer

So of a film that somebody skips through only what is seen is fetched, and no answer waits for all
of it. Slices are put together under one strong validator only (RFC 9111 §3.4). What turns out to be
no large object, since the upstream knows no ranges or one slice is all of it, is stored as usual.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING

from proxy.cache.entry import Entry
from proxy.errors import ClientGoneError, PurgeError
from proxy.message import FieldLine, Fields, Request, Response
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.fetched import drop
from proxy.pipeline.forward import forward
from proxy.pipeline.question import OF_ONE_CLIENT, Question, Slice
from proxy.pipeline.respond import respond
from proxy.pipeline.serve import serve_as
from proxy.pipeline.sliced_body import SlicedBody
from proxy.rules import cache_status
from proxy.rules.cache_key import key_url
from proxy.rules.partial import first_slice, slice_range, slice_size

if TYPE_CHECKING:
    from proxy.pipeline.timing import Timing

_NO_CACHE = (b"Cache-Control", b"no-cache")

# Told when a slice is here, or what went wrong.
OnAnswer = Callable[[Response | Exception], None]


def sliced(exchange: Exchange, question: Question, look: Step) -> Wait:
    """Answer out of slices; `look` is the step that looks for one."""
    return Wait(_begin(exchange, Slicing(exchange, question, look)))


async def _begin(exchange: Exchange, slicing: "Slicing") -> Step:
    """Get the slice that tells what the whole is like, and go on as that wants it."""
    number = first_slice(exchange.request.fields.get(b"range"), slicing.slice_bytes)
    if slicing.goes_past(number):
        return go_past
    here: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def answered(answer: Response | Exception) -> None:
        if isinstance(answer, Exception):
            if not here.done():
                here.set_exception(answer)
        elif here.done():
            drop(answer)
        else:
            here.set_result(answer)

    part = slicing.ask(number, answered)
    try:
        response = await here
    except asyncio.CancelledError:
        part.cancel()
        if not here.cancelled() and here.exception() is None:
            drop(here.result())
        raise
    exchange.upstream_s, exchange.request_id = part.exchange.upstream_s, part.exchange.request_id
    size = slice_size(number, slicing.slice_bytes, response.status, Fields(response.fields))
    if size is not None and not slicing.goes_past(number):
        return lambda exchange: put_together(exchange, slicing, number, response, size)
    if response.status in {206, 416}:  # there is nothing to be put together
        drop(response)
        return go_past
    exchange.response = response
    return respond


def go_past(exchange: Exchange) -> Step:
    """Forward the request as it came."""
    exchange.passed = cache_status.MISS
    return forward


def put_together(
    exchange: Exchange, slicing: "Slicing", number: int, first: Response, size: int
) -> Step | Wait:
    """Answer as from an entry that holds all of it. Raises RangeNotSatisfiableError."""
    lines = [line for line in first.fields if line[0].lower() != b"content-range"]
    body = SlicedBody(slicing, number, first, size)
    now = monotonic()
    entry = Entry(
        key=slicing.question.key,
        status=200,
        fields=Fields(lines),
        body=body,
        request_at=time(),
        response_at=time(),
        born_at=now,
        fresh_until=now,
        swr_until=now,
        sie_until=now,
        keep_until=now,
    )
    response = Response(200, lines, content_length=size)
    response.dated = first.dated
    try:
        return serve_as(exchange, slicing.question, entry, response)
    finally:
        body.close()


class Slicing:
    """What one client asks for, and how its slices are looked for."""

    __slots__ = ("_exchange", "_look", "question", "slice_bytes")

    def __init__(self, exchange: Exchange, question: Question, look: Step) -> None:
        self.question = question
        self.slice_bytes = question.rule.slice_bytes
        self._exchange = exchange
        self._look = look

    def ask(self, number: int, on_answer: OnAnswer, *, validated: bool = False) -> "Part":
        """Ask for one slice; `validated` wants to know of a stored one whether it still holds."""
        request = self._request(number)
        if validated:
            request.fields = Fields([*request.fields, _NO_CACHE])
        part = Part(self._exchange, request, on_answer)
        part.exchange.question = self._question(number, request)
        run(part.exchange, self._look)
        return part

    def changed(self) -> None:
        """Have every slice validated before it is used again, on whatever worker it is."""
        cache = self._exchange.site.cache
        if cache is None:
            raise RuntimeError("slices without a cache")
        with suppress(PurgeError):  # then the next client may be broken off as well
            cache.purges.invalidate(key_url(self.question.key))

    def goes_past(self, number: int) -> bool:
        """Whether the answer to a slice could not be kept."""
        cache = self._exchange.site.cache
        question = self._question(number, self._request(number))
        return cache is not None and cache.flights.marked(question.key, question, monotonic())

    def _request(self, number: int) -> Request:
        request = self._exchange.request
        lines = [line for line in request.fields if line[0].lower() not in OF_ONE_CLIENT]
        lines.append((b"Range", slice_range(number, self.slice_bytes)))
        made = Request(
            b"GET",
            request.target,
            request.minor_version,
            Fields(lines),
            request.path,
            request.query,
            request.authority,
            request.host,
        )
        made.route_path = request.route_path
        return made

    def _question(self, number: int, request: Request) -> Question:
        whole = self.question
        question = Question(request, whole.rule, whole.scheme, whole.origin)
        question.ask_for(Slice(number, self.slice_bytes, whole.key))
        return question


class Part:
    """Implements `exchange.Sink` for the exchange of one slice.

    That is over when its answer begins: the content is taken by whoever asked.
    """

    __slots__ = ("_asker", "_on_answer", "began", "closing", "exchange")

    def __init__(self, asker: Exchange, request: Request, on_answer: OnAnswer) -> None:
        self.began = False
        self.closing = False
        self._asker = asker
        self._on_answer = on_answer
        self.exchange = sub = Exchange(asker.site, self, asker.peer, monotonic())
        sub.inner = True
        sub.inside = asker.inside
        sub.client = asker.client
        sub.origin = asker.origin
        sub.route = asker.route
        sub.request = request

    @property
    def timing(self) -> "Timing | None":
        """What is waited for is waited for by who wants all of it."""
        return self._asker.sink.timing

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return monotonic()

    def inform(self, status: int, fields: list[FieldLine]) -> None:
        """What is said in between is about a slice, and not for the client."""

    def send(self, response: Response) -> bool:
        """Hand the slice over."""
        self.began = True
        self._on_answer(self.exchange.failure or response)
        return True

    async def sent(self) -> None:
        """Nothing is waited for."""

    async def tunnel(self, response: Response, upstream: asyncio.Transport, early: bytes) -> None:
        """No slice is upgraded."""
        upstream.abort()
        raise RuntimeError("a slice was upgraded")

    def exchange_done(self, exchange: Exchange) -> None:
        """The exchange is over."""
        if not self.began:
            self._on_answer(ClientGoneError("the slice was given up"))

    def cancel(self) -> None:
        """Want no more of it."""
        if not self.began and self.exchange.task is not None:
            asyncio.get_running_loop().call_soon(self.exchange.task.cancel)
