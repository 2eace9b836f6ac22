"""One request to the upstream on behalf of every client that asks for the same thing meanwhile.

    lookup ──miss, stale──→ Fetch ──→ its own exchange: forward → receive → respond
                              │                                       │
      client 1 (asked first) ─┤   ┌──────────── send ─────────────────┘
      client 2 ───────────────┤   ├─ may be stored ──→ Arrival ──→ all of them, as it streams
      client 3 ───────────────┘   ├─ 304 ──→ the entry is fresh again ──→ all of them
                                  ├─ 206 ──→ the rest of what broke off before ──→ as above
                                  ├─ an error, and stale is better ──→ the stale entry, all of them
                                  └─ is one client's own ──→ client 1; the others ask by themselves

The exchange of a fetch has a request made for it, and this object as its sink; so timeouts,
retries and errors are those of any forwarded request.
"""

import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING

from proxy.cache.entry import Entry
from proxy.errors import HttpError, UpstreamTimeoutError
from proxy.message import FieldLine, Fields, Response
from proxy.pipeline.arrival import Arrival
from proxy.pipeline.completing import completed, rest_fields, whole_in
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.fail import step_after
from proxy.pipeline.fetched import cookies_of, drop, own_error, unrelayed, with_fields
from proxy.pipeline.forward import forward
from proxy.pipeline.question import Question, fetching
from proxy.pipeline.respond import respond
from proxy.pipeline.serve import serve, whole
from proxy.pipeline.sibling import NOT_SHARED, asked_inside, not_shared, told_apart
from proxy.pipeline.site import Route
from proxy.pipeline.store import Judged, Times, judge_answer, refreshed
from proxy.pipeline.waiting import Waiting
from proxy.rules import cache_status
from proxy.rules.partial import slice_range
from proxy.rules.reuse import ERROR_STATUSES, may_serve_on_error
from proxy.rules.storing import AUTHORIZATION
from proxy.rules.validation import conditional_fields, select_validated

if TYPE_CHECKING:
    from proxy.cache.tiered import Tiered
    from proxy.pipeline.timing import Timing


class Fetch:
    """Implements `exchange.Sink` for the exchange of a fetch, and `flights.Flight`.

    Asks as `asker` does. `stale` is the entry that is asked about, if there is one, and `again` the
    step for those whom the answer is not for.
    """

    __slots__ = (
        "_again",
        "_arrival",
        "_asked_about",
        "_asked_at",
        "_asker",
        "_cache",
        "_exchange",
        "_names",
        "_purge_seq",
        "_question",
        "_relayed",
        "_request",
        "_said",
        "_untaken",
        "_variant",
        "_waiting",
        "began",
        "closing",
        "key",
        "stale",
    )

    def __init__(
        self, asker: Exchange, question: Question, stale: Entry | None, again: Step
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
        self._again = again
        self._asker = asker
        self._exchange: Exchange | None = None  # with the upstream, until that is done with
        self._waiting: list[Waiting] = []
        self._arrival: Arrival | None = None
        self._untaken: Response | None = None
        self._relayed = b""
        self._said = 0  # the status
        self._names, self._variant = self._cache.expected(question.key, question)

    def start(self) -> None:
        """Ask the upstream, and let others find out."""
        self._prepare()
        self._cache.flights.add(self)
        self._ask_somebody()

    def _prepare(self) -> None:
        """Write the request: for what is not here, or whether that still holds."""
        stale, cache = self.stale, self._cache
        self._asked_about = []
        conditions: list[FieldLine] = []
        if stale is not None and not stale.complete:
            conditions = rest_fields(stale)
        elif stale is not None:
            self._asked_about = [entry for entry in cache.siblings(stale) if entry.complete]
            conditions = conditional_fields(self._asked_about)
        part = self._question.part
        if part is not None:
            conditions.append((b"Range", slice_range(part.number, part.slice_bytes)))
        self._request = fetching(self._asker.request, self._question.rule, conditions)
        self._purge_seq = cache.purges.current()
        self._asked_at = monotonic()

    def _ask_somebody(self) -> None:
        """Ask the upstream, or the worker that fetches for all."""
        asker = self._asker
        siblings = asker.site.siblings
        # Who was asked by another worker asks nobody further: they may differ in whose key it is.
        if siblings is None or asker.inside or not asker.request.authority:
            self._ask(None)
        else:
            self._ask(siblings.route_for(self.key))

    def _ask(self, sibling: Route | None) -> None:
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

    def _ask_anew(self, stale: Entry) -> None:
        """Ask for all of it: what was said about what is stored does not fit that."""
        self._cache.remove(stale)
        self.stale = None
        self.began = False
        self._prepare()
        self._ask_somebody()

    # For those who ask.

    def fits(self, question: Question) -> bool:
        """Whether its answer, which has not come yet, is likely to be for `question`."""
        return not self.began and question.variant(self._names) == self._variant

    def vary(self) -> tuple[bytes, ...]:
        """Return the names in the Vary of its answer, once that is known."""
        return () if self._arrival is None else self._arrival.entry.vary

    def streams_for(self, question: Question, now: float) -> bool:
        """Whether its answer is coming, is for `question`, and is here from its beginning."""
        return self._arrival is not None and self._arrival.streams_for(question, now)

    def wait(self, exchange: Exchange, question: Question, why: bytes) -> None:
        """Let an exchange wait for the answer."""
        seq = self._cache.purges.current()
        self._waiting.append(Waiting(exchange, question, self, why, seq))

    def join(self, exchange: Exchange, question: Question, why: bytes) -> Step | Wait:
        """Give an exchange the answer that is coming."""
        arrival = self._arrival
        if arrival is None:
            raise RuntimeError("nothing is coming")
        given = self._response(exchange, arrival, exchange.sink.now(), why)
        return arrival.give(exchange, question, given)

    def left(self, waiting: Waiting) -> None:
        """A client that waited has left; the last one takes the fetch with it."""
        self._waiting.remove(waiting)
        if not self._waiting and not self.began:
            self.began = True  # nobody is to wait for it any more
            self._cache.flights.remove(self)
            asyncio.get_running_loop().call_soon(self._give_up)

    def _give_up(self) -> None:
        exchange = self._exchange
        if self._arrival is None and exchange is not None and exchange.task is not None:
            exchange.task.cancel()

    # From the steps of its own exchange.

    @property
    def timing(self) -> "Timing | None":
        """What is waited for is waited for by who asked first."""
        return self._asker.sink.timing

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return monotonic()

    def inform(self, status: int, fields: list[FieldLine]) -> None:
        """Pass an interim response to all who wait."""
        if status == NOT_SHARED and self._asks_inside():
            self._let_others_go(fields)
            return
        for waiting in self._waiting:
            waiting.exchange.sink.inform(status, fields)

    def _asks_inside(self) -> bool:
        """Whether it is another worker that is asked."""
        route = None if self._exchange is None else self._exchange.route
        return route is not None and route.inside

    def send(self, response: Response) -> bool:
        """Take the answer, and give all who wait theirs."""
        self._untaken = response
        self._said = response.status
        failure = None if self._exchange is None else self._exchange.failure
        if self._asks_inside():
            response.fields, self._relayed = unrelayed(response.fields)
            response.same_head = None  # what another worker says differs from client to client
            if failure is None and not self._relayed and response.status in ERROR_STATUSES:
                failure = own_error(response)
            elif not self._relayed:
                self._drop()
                self._ask(None)  # that worker is not there, or no use, so this one asks itself
                return True
        self.began = True
        if failure is not None:
            self._drop()
            self._fail(failure)
            return True
        return self._take(response)

    def _take(self, response: Response) -> bool:
        stale, status = self.stale, response.status
        if stale is not None and status == 304 and self._asked_about:
            self._take_304(stale, response)
        elif stale is not None and not stale.complete and status in {206, 416}:
            return self._take_rest(stale, response)
        elif stale is not None and status in ERROR_STATUSES:
            self._serve_stale(stale, status)
            self._hand_over(response)
        elif status == 206 and self._question.part is not None:
            return self._take_answer(whole_in(self._question.part, response))
        else:
            return self._take_answer(response)
        return True

    async def sent(self) -> None:
        """Wait for the end of the body. Raises what broke it off."""
        if self._arrival is not None:
            await self._arrival.over()

    async def tunnel(self, response: Response, upstream: asyncio.Transport, early: bytes) -> None:
        """Nothing that is fetched is upgraded."""
        upstream.abort()
        raise RuntimeError("a fetch was upgraded")

    def exchange_done(self, exchange: Exchange) -> None:
        """The upstream is done with; who waits still asks by itself."""
        if exchange is not self._exchange:
            return  # it was of no use, and another one has begun
        self.began = True
        self._cache.flights.remove(self)
        self._drop()
        if self._arrival is not None:
            self._arrival.give_up()
        for waiting in list(self._waiting):
            waiting.exchange.passed = waiting.why
            self._let_go(waiting, forward)
        self._exchange = None  # they would hold one another until the collector comes by

    # What becomes of the answer.

    def _let_go(self, waiting: Waiting, step: Step) -> None:
        """Take one who waits off the list; not before, lest an error leave somebody waiting."""
        self._waiting.remove(waiting)
        waiting.go_on(step)

    def _drop(self) -> None:
        untaken, self._untaken = self._untaken, None
        if untaken is not None:
            drop(untaken)

    def _fail(self, failure: HttpError) -> None:
        """Let everybody have the error, but for those who may have the stale entry instead."""
        if self.stale is not None:
            self._serve_stale(self.stale, None)
            if self.stale.must_revalidate:  # RFC 9111 §5.2.2.2
                failure = UpstreamTimeoutError(f"it must be validated, and cannot be: {failure}")
        for waiting in list(self._waiting):
            self._let_go(waiting, step_after(waiting.exchange, failure))

    def _serve_stale(self, entry: Entry, status: int | None) -> None:
        """Serve the stale entry to those who may have it. RFC 5861 §4, RFC 9111 §4.2.4."""
        now = monotonic()
        if entry.purge_seq != self._cache.purges.current() and not self._cache.unpurged(entry, now):
            return
        for waiting in list(self._waiting):
            allowed, _reason = may_serve_on_error(entry, waiting.question.asked, now)
            if allowed:
                ttl_s = entry.fresh_until - now
                member = cache_status.forwarded(waiting.why, status=status, ttl_s=ttl_s)
                self._serve(waiting, entry, now, member)

    def _serve(
        self,
        waiting: Waiting,
        entry: Entry,
        now: float,
        member: bytes,
        more: tuple[FieldLine, ...] = (),
    ) -> None:
        self._note(waiting.exchange)
        self._let_go(
            waiting, lambda exchange: serve(exchange, waiting.question, entry, now, member, more)
        )

    def _note(self, exchange: Exchange) -> None:
        """Let the log of a client's request tell what was asked upstream for it."""
        asked = self._exchange
        if asked is not None:
            exchange.upstream_s = asked.upstream_s
            exchange.request_id = asked.request_id

    def _take_304(self, stale: Entry, response: Response) -> None:
        """Make what it is about fresh again, and serve that. RFC 9111 §4.3.4."""
        times = self._times()
        said = Fields(response.fields)
        question = self._question
        kept: dict[Entry, bool] = {}
        for entry in select_validated(said, self._asked_about, int(times.response_at)):
            kept[entry] = refreshed(
                entry, self._request, question, response.fields, times, self._purge_seq
            )
            if kept[entry]:
                self._cache.keep(entry)
            else:
                self._cache.remove(entry)
        chosen = next(
            (
                entry
                for entry in kept
                if entry is stale or question.variant(entry.vary) == entry.variant
            ),
            None,
        )
        if chosen is None:  # it speaks of something else
            self._ask_anew(stale)
            return
        late = self._cache.purged_since(chosen)
        collapsed: bool | None = None
        for waiting in list(self._waiting):
            if late and waiting.purge_seq != self._purge_seq:
                self._let_go(waiting, self._again)
                continue
            ttl_s, stored = chosen.fresh_until - times.now, kept[chosen]
            member = cache_status.forwarded(
                waiting.why, status=304, ttl_s=ttl_s, stored=stored, collapsed=collapsed
            )
            if cache_status.is_hit(self._relayed):
                member = self._relayed
            more = cookies_of(response) if waiting.exchange is self._asker else ()
            self._serve(waiting, chosen, times.now, member, more)
            collapsed = True

    def _take_rest(self, stale: Entry, response: Response) -> bool:
        """Put what was missing to what is stored. RFC 9111 §3.4."""
        made = completed(stale, response)
        if made is None:
            self._drop()
            self._ask_anew(stale)
            return True
        self._untaken = made
        return self._take_answer(made)

    def _take_answer(self, response: Response) -> bool:
        """Store the answer, or leave it to the client whose request it answers."""
        judged = judge_answer(
            self._request, self._question, response, self._times(), self._purge_seq
        )
        if judged.entry is not None:
            return self._store(judged.entry, response)
        # What is not shared for the sake of one client says nothing about what others got.
        if self.stale is not None and judged.reason is not AUTHORIZATION:
            self._cache.remove(self.stale)
        self._mark(judged)
        self._tell_others(judged)
        self._hand_over(response)
        return True

    def _tell_others(self, judged: Judged) -> None:
        """Tell the workers that wait here that their clients need not wait for one another."""
        for waiting in self._waiting:
            if waiting.exchange.inside and waiting.exchange is not self._asker:
                waiting.exchange.sink.inform(NOT_SHARED, not_shared(judged.names))

    def _let_others_go(self, fields: list[FieldLine]) -> None:
        """Only one client gets the answer that comes; the others ask by themselves."""
        names = told_apart(fields)
        self._cache.flights.mark(self.key, names, self._question, monotonic())
        for waiting in list(self._waiting):
            if waiting.exchange is not self._asker:
                self._let_ask(waiting)

    def _let_ask(self, waiting: Waiting) -> None:
        waiting.exchange.passed = waiting.why
        waiting.exchange.waited = True
        self._let_go(waiting, forward)

    def _mark(self, judged: Judged) -> None:
        self._cache.flights.mark(self.key, judged.names, self._question, monotonic())

    def _times(self) -> Times:
        stale_s = cache_status.stale_s(self._relayed) if self._relayed else 0.0
        now, response_at = monotonic(), time()
        # The wall clock may have been set meanwhile, and would tell of another delay.
        return Times(response_at - (now - self._asked_at), response_at, now, stale_s)

    def _hand_over(self, response: Response) -> None:
        """Give the answer to the client whose request it answers; the others ask themselves."""
        for waiting in list(self._waiting):
            exchange = waiting.exchange
            if exchange is self._asker:
                self._untaken = None
                self._note(exchange)
                member = self._relayed or cache_status.forwarded(
                    waiting.why, status=self._said, stored=False
                )
                exchange.response = with_fields(exchange, response, member, spool=True)
                self._let_go(waiting, respond)
            else:
                self._let_ask(waiting)
        self._drop()

    def _store(self, entry: Entry, response: Response) -> bool:
        """Keep the answer while all whom it is for get it."""
        self._untaken = None
        self._asker.site.cache_figures.stored += 1
        largest_bytes = self._question.rule.largest_bytes
        self._arrival = arrival = Arrival(self._cache, entry, response, largest_bytes)
        if arrival.is_kept:
            self._cache.flights.unmark(self.key, self._question)
        else:
            self._cache.flights.mark(self.key, entry.vary, self._question, monotonic())
        late = self._cache.purged_since(entry)
        now = monotonic()
        for waiting in list(self._waiting):
            exchange, question = waiting.exchange, waiting.question
            is_asker = exchange is self._asker
            if not is_asker and (
                question.variant(entry.vary) != entry.variant
                or (late and waiting.purge_seq != self._purge_seq)
            ):
                self._let_go(waiting, self._again)
                continue
            if not arrival.is_kept and question.wants_part:
                exchange.passed = waiting.why  # no part of it is worth fetching all of it
                self._let_go(waiting, forward)
                continue
            self._note(exchange)
            if is_asker:  # who gets all of what the upstream said, once
                member = self._relayed or self._member(arrival, now, waiting.why)
                given = with_fields(exchange, response, member)
            else:
                given = self._response(exchange, arrival, now, waiting.why)
            self._let_go(waiting, self._giving(arrival, question, given))
        return arrival.start()

    def _giving(self, arrival: Arrival, question: Question, given: Response) -> Step:
        return lambda exchange: arrival.give(exchange, question, given)

    def _member(
        self, arrival: Arrival, now: float, why: bytes, *, collapsed: bool = False
    ) -> bytes:
        if collapsed and cache_status.is_hit(self._relayed):
            return self._relayed  # nobody went further than to another worker
        return cache_status.forwarded(
            why,
            status=self._said,
            ttl_s=arrival.entry.fresh_until - now,
            stored=arrival.is_kept,
            collapsed=collapsed or None,
        )

    def _response(self, exchange: Exchange, arrival: Arrival, now: float, why: bytes) -> Response:
        """Return the answer as those get it who did not ask for it first."""
        entry = arrival.entry
        age = int(max(0.0, now - entry.born_at))
        return whole(exchange, entry, age, self._member(arrival, now, why, collapsed=True))
