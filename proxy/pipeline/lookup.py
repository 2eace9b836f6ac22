"""The step that asks the cache: serve what is stored, or fetch it, or go past. RFC 9111 §4."""

from proxy.cache.entry import Entry
from proxy.cache.memory import Variants
from proxy.cache.store import Later
from proxy.cache.tiered import Tiered
from proxy.errors import OnlyIfCachedError
from proxy.message import Request
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.fail import error_response
from proxy.pipeline.fetch import Fetch
from proxy.pipeline.forward import forward
from proxy.pipeline.question import Question, question_of
from proxy.pipeline.refit import refit
from proxy.pipeline.respond import respond
from proxy.pipeline.serve import serve, serve_hit
from proxy.pipeline.sibling import NOT_SHARED, not_shared
from proxy.pipeline.slices import sliced
from proxy.rules import cache_status
from proxy.rules.cache_control import NOTHING_ASKED
from proxy.rules.reuse import Verdict, judge


def lookup(exchange: Exchange) -> Step | Wait | None:
    """Answer from the cache when what is stored may be used as it is."""
    route, cache = exchange.route, exchange.site.cache
    if route is None or route.cache is None or cache is None:
        raise RuntimeError("lookup without a cache")
    rule = route.cache
    question = exchange.question = question_of(exchange, rule)
    if question.why:
        return past(exchange, question.why)
    return look(exchange, question, cache, exchange.began_at)


def look_again(exchange: Exchange) -> Step | Wait | None:
    """Do as `lookup` did, some time later: what this request waited for is not for it."""
    question, cache = exchange.question, exchange.site.cache
    if question is None or cache is None:
        raise RuntimeError("looks again without having looked")
    return look(exchange, question, cache, exchange.sink.now())


def look(exchange: Exchange, question: Question, cache: Tiered, now: float) -> Step | Wait | None:
    """Look into memory, and on the disk as far as that is possible without waiting."""
    held = cache.get(question.key)
    if held is None:
        if now < question.passes_until:
            return past_as_marked(exchange, question, cache, cache_status.URI_MISS)
    elif type(held) is Variants:
        held = cache.chosen(held, question)
    if held is None:
        if cache.flights.not_on_disk(question.key, question, now):
            return missed(exchange, question, cache, None)
        found = cache.read_now(question.key, question)
        if isinstance(found, Later):
            return Wait(read(exchange, question, cache))
        if found is None or not still_fits(exchange, question, cache, found, now):
            return missed(exchange, question, cache, None)
        held = found
    return decide(exchange, question, cache, held, now)  # type: ignore[arg-type]


async def read(exchange: Exchange, question: Question, cache: Tiered) -> Step:
    """Look on the disk, in a thread."""
    entry = await cache.read(question.key, question)
    if entry is None or not still_fits(exchange, question, cache, entry, exchange.sink.now()):
        return lambda exchange: missed(exchange, question, cache, None)
    return lambda exchange: decide(exchange, question, cache, entry, exchange.sink.now())


def still_fits(
    exchange: Exchange, question: Question, cache: Tiered, entry: Entry, now: float
) -> bool:
    """Let what comes from the disk be as the rules of today have it, and remove what may not be."""
    if refit(entry, exchange.request, question.rule, now):
        return True
    cache.remove(entry)
    return False


def decide(
    exchange: Exchange, question: Question, cache: Tiered, held: Entry, now: float
) -> Step | Wait | None:
    """Serve an entry, or have it validated."""
    entry = held
    if entry.purge_seq != cache.purges.current() and not cache.unpurged(entry, now):
        return missed(exchange, question, cache, None)
    verdict, _reason = judge(entry, question.asked, now)
    if verdict is Verdict.HIT:
        entry.hits += 1
        if now >= entry.touch_at:
            cache.touch(entry, now)
        return serve_hit(exchange, question, entry, now)
    if verdict is Verdict.VALIDATE:
        return missed(exchange, question, cache, entry)
    if verdict is Verdict.SERVE_AND_REFRESH and not (
        question.alone or cache.flights.of(question.key)
    ):
        Fetch(exchange, question, entry, look_again).start()
    entry.hits += 1
    if not exchange.inner:
        exchange.site.cache_figures.stale += 1
    return serve(exchange, question, entry, now, cache_status.hit(entry.fresh_until - now))


def missed(
    exchange: Exchange, question: Question, cache: Tiered, entry: Entry | None
) -> Step | Wait | None:
    """Fetch what is not stored, or must be validated: alone, or with those who wait already."""
    request = exchange.request
    if question.rule.slice_bytes and entry is None and may_be_sliced(request, question):
        return sliced(exchange, question, look_again)
    if question.asked.only_if_cached:
        return only_if_cached(exchange)
    now = exchange.sink.now()
    why = why_missed(question, cache, entry, now)
    if request.method == b"HEAD" or question.alone:
        return past(exchange, why)
    if cache.flights.marked(question.key, question, now):
        question.passes_until = cache.flights.passes_until(question.key, question)
        return past_as_marked(exchange, question, cache, why)
    streaming, waiting = under_way(question, cache, now)
    if not exchange.inner:
        figures = exchange.site.cache_figures
        figures.forward(why)
        figures.collapsed += streaming is not None or waiting is not None
    if streaming is not None:
        return streaming.join(exchange, question, why)
    if waiting is None:
        waiting = Fetch(exchange, question, entry, look_again)
        waiting.wait(exchange, question, why)
        waiting.start()
    else:
        waiting.wait(exchange, question, why)
    return None


def why_missed(question: Question, cache: Tiered, entry: Entry | None, now: float) -> bytes:
    """Say why `entry`, or what there is of the key, does not do. RFC 9211 §2.2."""
    if entry is None:
        return cache_status.URI_MISS if cache.get(question.key) is None else cache_status.VARY_MISS
    return cache_status.why_validated(entry, now) if entry.complete else cache_status.PARTIAL


def may_be_sliced(request: Request, question: Question) -> bool:
    """Whether to look for slices of what is not stored as a whole."""
    return question.part is None and request.method == b"GET" and not question.alone


def under_way(question: Question, cache: Tiered, now: float) -> tuple[Fetch | None, Fetch | None]:
    """Find a fetch whose answer is coming, or one that waits for it. RFC 9111 §4."""
    flights: list[Fetch] = cache.flights.of(question.key)
    for fetch in reversed(flights):
        # What has begun to come before this was asked is an answer that is stored already.
        if question.asked is NOTHING_ASKED and fetch.streams_for(question, now):
            return fetch, None
    for fetch in reversed(flights):
        if fetch.fits(question):
            return None, fetch
    return None, None


def past_as_marked(exchange: Exchange, question: Question, cache: Tiered, why: bytes) -> Step:
    """Forward a request whose answer will hardly be for others; tell the worker that asks so."""
    if exchange.inside:
        exchange.sink.inform(NOT_SHARED, not_shared(cache.flights.names(question.key)))
    return past(exchange, why)


def past(exchange: Exchange, why: bytes) -> Step:
    """Forward a request that the cache has nothing to do with, and say why."""
    exchange.passed = why
    if not exchange.inner:
        exchange.site.cache_figures.forward(why)
    return forward


def only_if_cached(exchange: Exchange) -> Step:
    """Say that nothing is stored, which is what the client wants to know."""
    error = OnlyIfCachedError("nothing stored, and the client wants nothing else")
    exchange.response = error_response(error, exchange.request.fields.get(b"accept"))
    return respond
