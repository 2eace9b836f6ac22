"""What an answer that is passed on says about those that are stored. RFC 9111 §4.3.5, §4.4."""

import logging
from time import time
from typing import TYPE_CHECKING, Final

from proxy.cache.entry import Entry
from proxy.cache.memory import Variants
from proxy.errors import PurgeError
from proxy.message import Response
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.question import Question, fetching
from proxy.pipeline.store import Times, judge_answer, origin_of, refreshed
from proxy.rules.cache_groups import invalidated_tags
from proxy.rules.cache_key import base_key
from proxy.rules.invalidation import invalidated_targets
from proxy.rules.validation import HeadOutcome, head_outcome

if TYPE_CHECKING:
    from proxy.cache.tiered import Tiered
    from proxy.upstream.response import UpstreamResponse


log: Final = logging.getLogger("proxyd.cache")


def heed(exchange: Exchange, question: Question, answer: "UpstreamResponse") -> None:
    """Invalidate, update, or learn that such answers can be stored after all."""
    cache = exchange.site.cache
    if cache is None:
        return
    method = exchange.request.method
    if method == b"HEAD":
        heed_head(exchange, question, answer, cache)
    elif method == b"GET":
        if question.why or exchange.began_at < question.passes_until:
            return
        now = exchange.sink.now()
        if not cache.flights.worth_a_look(question.key, question, now):
            return
        times = Times(time(), time(), now)
        response = Response(answer.status, answer.fields.lines, reason=answer.reason)
        if judge_answer(exchange.request, question, response, times, 0).entry is not None:
            cache.flights.unmark(question.key, question)
    else:
        invalidate(exchange, question, answer, cache)


def invalidate(
    exchange: Exchange, question: Question, answer: "UpstreamResponse", cache: "Tiered"
) -> None:
    """Let nobody have what an unsafe request may have changed, before it is answered.

    Where that cannot be noted, the answer goes out all the same: what it tells has been done.
    """
    request = exchange.request
    targets = invalidated_targets(
        request.method,
        answer.status,
        question.scheme,
        request.authority,
        (request.path, request.query),
        answer.fields,
    )
    origin = origin_of(question, request)
    try:
        for path, query in targets:
            url = base_key(question.scheme, request.authority, path, query, question.rule.key)
            cache.purges.invalidate(url)
        for tag in invalidated_tags(request.method, answer.status, answer.fields, origin):
            cache.purges.invalidate_tag(tag)
    except PurgeError as error:
        log.warning(
            "what a %s may have changed is not invalidated: %s",
            request.method.decode("latin-1"),
            error,
        )


def heed_head(
    exchange: Exchange, question: Question, answer: "UpstreamResponse", cache: "Tiered"
) -> None:
    """Compare what is stored with the answer to a HEAD."""
    request = exchange.request
    held = cache.get(question.key)
    if isinstance(held, Variants):
        held = cache.chosen(held, question)
    if not isinstance(held, Entry) or not held.complete or question.alone:
        return
    outcome = head_outcome(held, answer.status, answer.fields)
    if outcome is HeadOutcome.INVALIDATE:
        held.no_cache = True
        cache.keep(held)
    elif outcome is HeadOutcome.UPDATE:
        now = exchange.sink.now()
        times = Times(time() - (now - exchange.began_at), time(), now)
        seq = cache.purges.current()
        stored_by = fetching(request, question.rule, [])
        if refreshed(held, stored_by, question, answer.fields.lines, times, seq):
            cache.keep(held)
        else:
            cache.remove(held)
