"""One request to the upstream on behalf of every client that asks for the same thing meanwhile.

    lookup ──miss, stale──→ Fetch ──→ its own exchange: forward → receive → respond
                              │                                       │
      client 1 (asked first) ─┤   ┌──────────── send ─────────────────┘
      client 2 ───────────────┤   ├─ may be stored ──→ entry ──→ all of them, as it streams
      client 3 ───────────────┘   ├─ 304 ──→ the entry is fresh again ──→ all of them
                                  ├─ an error, and stale is better ──→ the stale entry, all of them
                                  └─ is one client's own ──→ client 1; the others ask by themselves

The exchange of a fetch has a request made for it, and this object as its sink; so timeouts,
retries and errors are those of any forwarded request.
"""

import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING

from proxy.cache.entry import Entry
from proxy.cache.growing import Growing
from proxy.errors import ClientGoneError, HttpError, UpstreamTimeoutError
from proxy.message import FieldLine, Fields, Response
from proxy.pipeline.client_fields import client_fields
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.fail import step_after
from proxy.pipeline.forward import forward
from proxy.pipeline.question import Question, fetching
from proxy.pipeline.receive import spooled
from proxy.pipeline.respond import respond
from proxy.pipeline.serve import serve, serve_as, whole
from proxy.pipeline.sibling import asked_inside
from proxy.pipeline.site import Route
from proxy.pipeline.store import Times, judge_answer, refreshed
from proxy.pipeline.stream import serve_growing
from proxy.rules import cache_status
from proxy.rules.reuse import ERROR_STATUSES, may_serve_on_error
from proxy.rules.validation import conditional_fields, select_validated

if TYPE_CHECKING:
    from proxy.cache.tiered import Tiered


class Waiting:
    """A client that waits for a fetch; stands in for the task of its exchange."""

    __slots__ = ("exchange", "fetch", "question")

    def __init__(self, exchange: Exchange, question: Question, fetch: "Fetch") -> None:
        self.exchange = exchange
        self.question = question
        self.fetch = fetch

    def go_on(self, step: Step) -> None:
        """Leave the fetch, and take the exchange from `step` on."""
        if self.exchange.task is self:
            self.exchange.task = None
            run(self.exchange, step)

    def cancel(self) -> None:
        """The client has left."""
        if self.exchange.task is self:
            self.exchange.task = None
            self.fetch.left(self)
            run(self.exchange, step_after(self.exchange, ClientGoneError("the client left")))


class Fetch:
    """Implements `exchange.Sink` for the exchange of a fetch, and `flights.Flight`.

    Asks as `asker` does. `stale` is the entry that is asked about, if there is one, `why` what
    Cache-Status says of it, and `again` the step for those whom the answer is not for.
    """

    __slots__ = (
        "_again",
        "_asked_about",
        "_asker",
        "_body_error",
        "_cache",
        "_entry",
        "_exchange",
        "_growing",
        "_names",
        "_over",
        "_purge_seq",
        "_question",
        "_relayed",
        "_request",
        "_request_at",
        "_variant",
        "_waiting",
        "_why",
        "began",
        "closing",
        "key",
        "stale",
    )

    def __init__(
        self, asker: Exchange, question: Question, stale: Entry | None, why: bytes, again: Step
    ) -> None:
        site, route = asker.site, asker.route
        if site.cache is None or route is None or route.bare is None:
            raise RuntimeError("a fetch without a cache")
        self.key = question.key
        self.stale = stale
        self.began = False
        self.closing = False
        self._cache: Tiered = site.cache
        self._question = question
        self._why = why
        self._again = again
        self._asker = asker
        self._waiting: list[Waiting] = []
        self._entry: Entry | None = None
        self._growing: Growing | None = None
        self._over: asyncio.Future[None] | None = None
        self._body_error: Exception | None = None
        self._relayed = b""
        self._names, self._variant = self._cache.expected(question.key, question)

    def start(self) -> None:
        """Ask the upstream."""
        cache, asker = self._cache, self._asker
        siblings = asker.site.siblings
        self._asked_about = [] if self.stale is None else cache.siblings(self.stale)
        self._purge_seq = cache.purges.current()
        self._request_at = time()
        cache.flights.add(self)
        self._request = fetching(
            asker.request, self._question.rule, conditional_fields(self._asked_about)
        )
        # Who was asked by another worker asks nobody further: they may differ in whose key it is.
        if siblings is None or asker.inner or not asker.request.authority:
            self._ask(None)
        else:
            self._ask(siblings.route_for(self.key))

    def _ask(self, sibling: Route | None) -> None:
        """Ask the upstream, or the worker that fetches for all."""
        asker = self._asker
        self._exchange = sub = Exchange(asker.site, self, asker.peer, monotonic())
        sub.inner = True
        sub.client = asker.client
        sub.origin = asker.origin
        sub.route = sibling
        if sibling is None:
            sub.route = None if asker.route is None else asker.route.bare
            sub.request = self._request
        else:
            sub.request = asked_inside(asker, self._request)
        run(sub, forward)

    # For those who ask.

    def fits(self, question: Question) -> bool:
        """Whether its answer, which has not come yet, is likely to be for `question`."""
        if self.began:
            return False
        return not self._names or question.variant(self._names) == self._variant

    def vary(self) -> tuple[bytes, ...]:
        """Return the names in the Vary of its answer, once that is known."""
        return () if self._entry is None else self._entry.vary

    def streams_for(self, question: Question, now: float) -> bool:
        """Whether its answer is coming, is for `question`, and is here from its beginning."""
        entry, growing = self._entry, self._growing
        if entry is None or growing is None or not growing.keeping:
            return False
        if now >= entry.fresh_until or entry.no_cache:
            return False
        if entry.purge_seq != self._cache.purges.current():
            return False
        return question.variant(entry.vary) == entry.variant

    def wait(self, exchange: Exchange, question: Question) -> None:
        """Let an exchange wait for the answer."""
        waiting = Waiting(exchange, question, self)
        exchange.task = waiting
        group = None if exchange.route is None else exchange.route.group
        exchange.upstream_name = "" if group is None else group.name
        self._waiting.append(waiting)

    def join(self, exchange: Exchange, question: Question) -> Step:
        """Give an exchange the answer that is coming."""
        entry = self._entry
        if entry is None:
            raise RuntimeError("nothing is coming")
        now = exchange.sink.now()
        return self._stream(exchange, question, self._response(exchange, entry, now, True))

    def left(self, waiting: Waiting) -> None:
        """A client that waited has left; the last one takes the fetch with it."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        task = self._exchange.task
        if not self._waiting and not self.began and task is not None:
            asyncio.get_running_loop().call_soon(task.cancel)

    # From the steps of its own exchange.

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return monotonic()

    def inform(self, status: int, fields: list[FieldLine]) -> None:
        """Pass an interim response to all who wait."""
        for waiting in self._waiting:
            waiting.exchange.sink.inform(status, fields)

    def send(self, response: Response) -> bool:
        """Take the answer, and give all who wait theirs."""
        route = self._exchange.route
        inside = route is not None and route.inside
        if inside and self._exchange.failure is not None:
            self._ask(None)  # that worker is not there, so this one asks itself
            return True
        if inside:
            response.fields, self._relayed = unrelayed(response.fields)
        self.began = True
        if response.status in ERROR_STATUSES and self.stale is not None:
            self._serve_stale(self.stale, response.status)
        failure = self._exchange.failure
        if failure is not None:
            self._fail(failure)
        elif response.status == 304 and self._asked_about:
            self._take_304(response)
        elif response.status in ERROR_STATUSES and self.stale is not None:
            self._hand_over(response)
        else:
            judged = judge_answer(
                self._request, self._question, response, self._times(), self._purge_seq
            )
            if judged.entry is not None:
                return self._store(judged.entry, response)
            if self.stale is not None:
                self._cache.remove(self.stale)
            self._cache.flights.mark(self.key, monotonic())
            self._hand_over(response)
        return True

    async def sent(self) -> None:
        """Wait for the end of the body. Raises what broke it off."""
        growing = self._growing
        if growing is not None and not growing.ended:
            self._over = asyncio.get_running_loop().create_future()
            try:
                await self._over
            except asyncio.CancelledError:
                growing.cancel()
                raise
        if self._body_error is not None:
            raise self._body_error
        if growing is not None and growing.writer is not None:
            entry = await growing.writer.commit(growing.trailers)
            if entry is not None:
                self._cache.memory.put(entry)

    async def tunnel(self, response: Response, upstream: asyncio.Transport, early: bytes) -> None:
        """Nothing that is fetched is upgraded."""
        upstream.abort()
        raise RuntimeError("a fetch was upgraded")

    def exchange_done(self, exchange: Exchange) -> None:
        """The upstream is done with; who waits still asks anew."""
        if exchange is not self._exchange:
            return  # it was another worker, and was no use
        self.began = True
        self._cache.flights.remove(self)
        for waiting in self._take_waiting():
            waiting.go_on(forward)

    # What becomes of the answer.

    def _times(self) -> Times:
        return Times(self._request_at, time(), monotonic())

    def _take_waiting(self) -> list[Waiting]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _fail(self, failure: HttpError) -> None:
        """Let everybody have the error, with no answer to give them.

        What must be validated and cannot be is a 504. RFC 9111 §5.2.2.2.
        """
        if self.stale is not None and self.stale.must_revalidate:
            failure = UpstreamTimeoutError(f"it must be validated, and cannot be: {failure}")
        for waiting in self._take_waiting():
            waiting.go_on(step_after(waiting.exchange, failure))

    def _serve_stale(self, entry: Entry, status: int) -> None:
        """Serve the stale entry to those who may have it. RFC 5861 §4, RFC 9111 §4.2.4."""
        now = monotonic()
        member = cache_status.forwarded(self._why, status=status, ttl_s=entry.fresh_until - now)
        for waiting in self._take_waiting():
            allowed, _reason = may_serve_on_error(entry, waiting.question.asked, now)
            if allowed:
                self._serve(waiting, entry, now, member)
            else:
                self._waiting.append(waiting)

    def _serve(self, waiting: Waiting, entry: Entry, now: float, member: bytes) -> None:
        self._note(waiting.exchange)
        waiting.go_on(lambda exchange: serve(exchange, waiting.question, entry, now, member))

    def _note(self, exchange: Exchange) -> None:
        """Let the log of a client's request tell what was asked upstream for it."""
        exchange.upstream_s = self._exchange.upstream_s
        exchange.request_id = self._exchange.request_id

    def _take_304(self, response: Response) -> None:
        """Make what it is about fresh again, and serve that. RFC 9111 §4.3.4."""
        times = self._times()
        said = Fields(response.fields)
        selected = select_validated(said, self._asked_about, int(times.response_at))
        for entry in selected:
            if refreshed(
                entry, self._request, self._question, response.fields, times, self._purge_seq
            ):
                self._cache.keep(entry)
            else:
                self._cache.remove(entry)
        stale = self.stale
        chosen = next(
            (
                entry
                for entry in selected
                if entry is stale or self._question.variant(entry.vary) == entry.variant
            ),
            None,
        )
        if chosen is None:  # it speaks of something else: ask again, for all of it
            if stale is not None:
                self._cache.remove(stale)
            for waiting in self._take_waiting():
                waiting.go_on(self._again)
            return
        for at, waiting in enumerate(self._take_waiting()):
            member = cache_status.forwarded(
                self._why,
                status=304,
                ttl_s=chosen.fresh_until - times.now,
                stored=True,
                collapsed=True if at else None,
            )
            self._serve(waiting, chosen, times.now, member)

    def _hand_over(self, response: Response) -> None:
        """Give the answer to the client whose request it answers; the others ask themselves."""
        waiting = self._take_waiting()
        first = waiting.pop(0) if waiting and waiting[0].exchange is self._asker else None
        if first is None:
            drop(response)
        else:
            exchange = first.exchange
            self._note(exchange)
            member = self._relayed or cache_status.forwarded(
                self._why, status=response.status, stored=False
            )
            exchange.response = with_fields(exchange, response, member, spool=True)
            first.go_on(respond)
        for other in waiting:
            other.exchange.passed = self._why
            other.exchange.waited = True
            other.go_on(forward)

    def _store(self, entry: Entry, response: Response) -> bool:
        """Keep the answer while all whom it is for get it."""
        self._cache.flights.unmark(self.key)
        self._asker.site.cache_figures.stored += 1
        self._entry = entry
        now = monotonic()
        body = response.body
        streams = body is not None and not isinstance(body, bytes)
        if streams:
            self._growing = Growing(
                body,  # type: ignore[arg-type]  # it streams
                min(self._cache.memory_object_bytes, self._question.rule.largest_bytes),
                self._body_ended,
                begin=lambda drained: self._cache.begin(entry, drained),
                largest_bytes=self._question.rule.largest_bytes,
            )
        else:
            entry.body = body if isinstance(body, bytes) else b""
            entry.size_bytes = len(entry.body)
            entry.set_fields(entry.fields)
            self._cache.keep(entry)
        for waiting in self._take_waiting():
            exchange = waiting.exchange
            is_asker = exchange is self._asker
            if not is_asker and waiting.question.variant(entry.vary) != entry.variant:
                waiting.go_on(self._again)
                continue
            self._note(exchange)
            if is_asker:  # who gets all of what the upstream said, once
                member = self._member(entry, now, collapsed=False)
                given = with_fields(exchange, response, member)
            else:
                given = self._response(exchange, entry, now, True)
            waiting.go_on(self._giving(waiting, entry, given))
        if self._growing is not None:
            self._growing.start()
            return self._growing.ended and self._growing.writer is None
        return True

    def _giving(self, waiting: Waiting, entry: Entry, given: Response) -> Step:
        question = waiting.question
        if self._growing is None:
            return lambda exchange: serve_as(exchange, question, entry, given)
        return lambda exchange: self._stream(exchange, question, given)

    def _member(self, entry: Entry, now: float, *, collapsed: bool) -> bytes:
        if self._relayed and not collapsed:
            return self._relayed
        return cache_status.forwarded(
            self._why,
            status=entry.status,
            ttl_s=entry.fresh_until - now,
            stored=True,
            collapsed=collapsed or None,
        )

    def _response(self, exchange: Exchange, entry: Entry, now: float, collapsed: bool) -> Response:
        age = int(max(0.0, now - entry.born_at))
        return whole(exchange, entry, age, self._member(entry, now, collapsed=collapsed))

    def _stream(self, exchange: Exchange, question: Question, response: Response) -> Step:
        entry, growing = self._entry, self._growing
        if entry is None or growing is None:
            raise RuntimeError("nothing is coming")
        return serve_growing(exchange, question, entry, growing, response)

    def _body_ended(self, content: bytes | None, trailers: Fields | None) -> None:
        """The body has come, or broke off, or is too long to be kept."""
        entry, growing = self._entry, self._growing
        if content is not None and entry is not None:
            entry.body = content
            entry.size_bytes = len(content)
            entry.trailers = trailers
            entry.set_fields(entry.fields)
            self._cache.keep(entry)
        if growing is not None:
            self._body_error = growing.error
        if growing is None or growing.writer is None:
            self._cache.flights.remove(self)  # else when that has named the file
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


def unrelayed(lines: list[FieldLine]) -> tuple[list[FieldLine], bytes]:
    """Take what another worker said in Cache-Status out of its answer: to clients we are one."""
    existing = b", ".join([value for name, value in lines if name.lower() == b"cache-status"])
    rest, _, member = existing.rpartition(cache_status.NAME + b"; ")
    kept = [line for line in lines if line[0].lower() != b"cache-status"]
    if rest:
        kept.append((b"Cache-Status", rest.removesuffix(b", ")))
    return kept, cache_status.NAME + b"; " + member


def drop(response: Response) -> None:
    """Let go of an answer that nobody gets."""
    if response.body is not None and not isinstance(response.body, bytes):
        response.body.cancel()


def with_fields(
    exchange: Exchange, response: Response, member: bytes, *, spool: bool = False
) -> Response:
    """Return what the upstream said as one client gets it; its content waits for who is slow."""
    route = exchange.route
    lines = response.fields
    if route is not None:
        lines = client_fields(route, lines, member, tags=exchange.inner)
    body = response.body
    if spool and route is not None and body is not None and not isinstance(body, bytes):
        body = spooled(exchange.site, route, body)
    made = Response(
        response.status,
        lines,
        body,
        reason=response.reason,
        content_length=response.content_length,
    )
    made.dated = response.dated
    return made
