"""The cache's part of `proxyd explain`: the key, what is stored under it, what would be done."""

import time
from dataclasses import replace

from proxy.cache.entry import Entry
from proxy.cache.purges import Verdict as Purged
from proxy.message import Request
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.question import Question, question_of
from proxy.pipeline.refit import refit
from proxy.pipeline.store import Judged
from proxy.rules import cache_status
from proxy.rules.cache_key import cookies_that_matter, key_query
from proxy.rules.cache_rule import CacheRule
from proxy.rules.conditional import Outcome
from proxy.rules.conditions import met
from proxy.rules.cookies import parse_cookies
from proxy.rules.query import parse_query
from proxy.rules.reuse import Verdict, judge, may_serve_on_error
from proxy.rules.validation import conditional_fields, evaluate_stored
from proxy.tools.explain_answer import explain_fetch, explain_lifetime
from proxy.tools.findings import Explanation, Fact, Places, Step
from proxy.tools.setting import Setting
from proxy.tools.stored import Found, Stored, look_up
from proxy.tools.words import clause, lasting, size, text
from proxy.tools.workers import WorkerSockets

_ASKED = {
    "max_age": ("max-age", "RFC 9111 §5.2.1.1"),
    "max_stale": ("max-stale", "RFC 9111 §5.2.1.2"),
    "min_fresh": ("min-fresh", "RFC 9111 §5.2.1.3"),
    "no_cache": ("no-cache", "RFC 9111 §5.2.1.4"),
    "no_store": ("no-store", "RFC 9111 §5.2.1.5"),
    "no_transform": ("no-transform", "RFC 9111 §5.2.1.6"),
    "only_if_cached": ("only-if-cached", "RFC 9111 §5.2.1.7"),
    "stale_if_error": ("stale-if-error", "RFC 5861 §4"),
}
_PURGED = {
    Purged.HARD: "a purge has removed it",
    Purged.SOFT: "a soft purge has made it stale",
    Purged.INVALID: "it was invalidated, and must be validated",
}
IF_IT_MAY_BE = "; the answer is stored if it may be"
# How many variants for other requests are shown.
_OTHERS = 5


def explain_cache(
    told: Explanation,
    setting: Setting,
    exchange: Exchange,
    places: Places,
    *,
    fetch: bool,
    in_full: bool,
) -> None:
    """Take the request through the cache: `pipeline/lookup`. In full, with all stored fields."""
    route = exchange.route
    rule = None if route is None else route.cache
    if rule is None:
        told.step("Cache", "off for this route", places.cache("enabled"), "warn")
        told.outcome = Fact(text="It goes to the upstream, and nothing is stored.")
        if fetch:
            explain_fetch(told, setting, exchange, None, places)
        return
    question = question_of(exchange, rule)
    explain_key(told, exchange.request, question, places)
    explain_request(told, exchange.request, question, places)
    if question.why:
        told.outcome = Fact(
            text="It goes past the cache to the upstream; nothing stored is used, and the answer"
            " is not stored.",
            source=places.cache("bypass") if question.why == cache_status.BYPASS else "RFC 9111 §3",
            tone="warn",
        )
        if fetch:
            explain_fetch(told, setting, exchange, None, places)
        return
    found = look_up(setting.folder, question, WorkerSockets(setting.run_folder))
    explain_stored(told, found)
    chosen = usable(told, exchange.request, question, found.chosen, places)
    if chosen is not None:
        if in_full:
            explain_fields(told, chosen.entry)
        explain_lifetime(told, chosen.entry, exchange.request, question, places)
        decide(told, exchange.request, question, chosen.entry)
    else:
        explain_miss(told, exchange.request, question, found)
    if fetch:
        judged = explain_fetch(told, setting, exchange, question, places)
        if judged is not None and told.outcome is not None and chosen is None:
            told.outcome = replace(
                told.outcome, text=told.outcome.text.replace(IF_IT_MAY_BE, stored_or_not(judged))
            )


def explain_key(told: Explanation, request: Request, question: Question, places: Places) -> None:
    """Say under which key answers are kept, and what of the request it holds: `cache_key`."""
    rule = question.rule
    step = told.step("Key", text(question.key), "RFC 9111 §2")
    if not rule.key.scheme:
        step.add("http and https share their answers", places.cache("key.scheme"), "warn")
    if not rule.key.host:
        step.add("all hosts share their answers", places.cache("key.host"), "warn")
    kept = {each.raw for each in parse_query(key_query(request.query, rule.key))}
    for each in parse_query(request.query):
        if each.raw not in kept:
            step.add(
                f"?{text(each.name)} is left out, and not sent to the application",
                places.cache("key.query"),
            )
    if rule.key.sort_query and request.query:
        step.add("parameters are put in order", places.cache("key.query"), "quiet")
    for name in rule.key.cookies:
        step.add(f"the cookie {text(name)} is in the key", places.cache("key.cookies"))
    for name in rule.key.headers:
        step.add(f"the field {text(name)} is in the key", places.cache("key.headers"))
    explain_cookies(step, request, rule, places)


def explain_cookies(step: Step, request: Request, rule: CacheRule, places: Places) -> None:
    """Say which cookies of the request do not matter."""
    value = request.fields.get(b"cookie")
    mattering = {name for name, _ in cookies_that_matter(value, rule)}
    for name, _ in parse_cookies(value):
        if name in mattering:
            step.add(f"the cookie {text(name)} matters where an answer is not for all", "", "quiet")
        else:
            step.add(
                f"the cookie {text(name)} does not matter; the application does not get it"
                " with what is fetched for all",
                places.cache("ignore_cookies"),
            )


def explain_request(
    told: Explanation, request: Request, question: Question, places: Places
) -> None:
    """Say what the request itself wants of the cache: `pipeline/question`."""
    step = told.step("Request", "asks nothing special of the cache")
    if question.why == cache_status.METHOD:
        step.verdict = f"{text(request.method)} is not answered from a cache"
        step.source, step.tone = "RFC 9111 §3", "warn"
        return
    if question.why:
        what = met(question.rule.bypass, request)
        step.verdict = f"goes past the cache: {text(what) or 'it has content'}"
        step.source, step.tone = places.cache("bypass"), "warn"
        return
    for attribute, (name, source) in _ASKED.items():
        value = getattr(question.asked, attribute)
        if value is None or value is False:
            continue
        step.add(name if value is True else f"{name}={value:g}", source)
        step.verdict = "has wishes of its own"
    cache_control = request.fields.get(b"cache-control")
    if cache_control and b"request-cache-control" in question.rule.ignore:
        step.add(f"Cache-Control: {text(cache_control)} is ignored", places.cache("ignore"))
    if not question.plain:
        step.add("is a HEAD, conditional, or for a range", "RFC 9110 §9.3.2, §13, §14", "quiet")


def explain_stored(told: Explanation, found: Found) -> None:
    """Say what is under the key, on the disk and in memory: `cache/tiered`."""
    where = "on disk" if found.unseen else "on disk or in memory"
    step = told.step("Stored", f"nothing, {where}, for this key", "RFC 9111 §4", "warn")
    if found.trouble:
        step.verdict, step.tone = f"the disk cannot be read: {found.trouble}", "bad"
    elif found.others and found.chosen is None:
        step.verdict, step.source = "only variants for other requests", "RFC 9111 §4.1"
    if found.unseen:
        step.add(found.unseen, "", "quiet")
    if found.chosen is not None:
        explain_chosen(step, found.chosen, found.trouble)
    for older in found.older:
        step.add(f"an older one, until it is stale there: {described(older)}", "", "warn")
    for names in found.lists:
        if names:
            listed = text(b", ".join(names))
            step.add(f"variants are told apart by {listed}", "RFC 9111 §4.1", "quiet")
    for other in found.others[:_OTHERS]:
        step.add(f"another variant: {described(other)}, {told_apart(other.entry)}", "", "quiet")
    if len(found.others) > _OTHERS:
        step.add(f"and {len(found.others) - _OTHERS} variants more", "", "quiet")


def explain_chosen(step: Step, chosen: Stored, trouble: str) -> None:
    """Say what there is for this request, although the disk may be in `trouble`."""
    if trouble:
        step.add(step.verdict, "", "bad")
    step.verdict, step.tone, step.source = described(chosen), "good", ""
    step.add(f"for requests {told_apart(chosen.entry)}", "RFC 9111 §4.1", "quiet")
    if chosen.purged is not Purged.NOTHING:
        step.add(_PURGED[chosen.purged], "proxyd cache purge, RFC 9111 §4.4", "bad")
        step.tone = "warn"
    if chosen.entry.tags:
        step.add(f"tags: {text(b' '.join(chosen.entry.tags))}", "", "quiet")


def usable(
    told: Explanation, request: Request, question: Question, chosen: Stored | None, places: Places
) -> Stored | None:
    """Return what is stored with the lifetimes of today's rules; None when it may not be used."""
    if chosen is None or chosen.purged is Purged.HARD:
        return None
    if refit(chosen.entry, request, question.rule, time.monotonic()):
        return chosen
    step = told.steps[-1]
    step.tone = "warn"
    step.add(
        "it was stored under another `ignore` or `targets`, and is not used",
        places.cache("ignore"),
        "bad",
    )
    return None


def explain_fields(told: Explanation, entry: Entry) -> None:
    """Show the fields as they are stored."""
    step = told.step("Fields", "as they are stored", "RFC 9111 §3.1")
    for name, value in entry.fields:
        step.add(f"{text(name)}: {text(value)}", "", "quiet")


def described(stored: Stored) -> str:
    """Say what an entry is, in a few words."""
    entry = stored.entry
    kind = text(entry.fields.get(b"content-type") or b"no Content-Type")
    hits = f", {stored.hits} hits" if stored.hits else ""
    return f"{entry.status} {kind}, {size(entry.size_bytes)}{hits}, {stored.where}"


def told_apart(entry: Entry) -> str:
    """Say for which requests an entry is."""
    if not entry.variant:
        return "of any kind"
    parts = [text(part).partition("=") for part in entry.variant.split(b" ")]
    return "with " + ", ".join(
        f"{name}: {value}" if equals else f"no {name}" for name, equals, value in parts
    )


def explain_miss(told: Explanation, request: Request, question: Question, found: Found) -> None:
    """Say what becomes of a request for which nothing is stored."""
    if question.asked.only_if_cached:
        told.outcome = Fact(
            text="504: nothing is stored, and the client wants nothing else.",
            source="RFC 9111 §5.2.1.7",
            tone="bad",
        )
        return
    why = "vary-miss" if found.others else "uri-miss"
    stored = "" if request.method == b"HEAD" else IF_IT_MAY_BE
    told.outcome = Fact(
        text=f"A miss (fwd={why}): the upstream is asked, once for all who ask now{stored}.",
        source="RFC 9211 §2.2",
        tone="warn",
    )


def stored_or_not(judged: Judged) -> str:
    """Say what a fetched answer comes to."""
    if judged.entry is None:
        return f"; the answer is not stored: {clause(judged.reason.text)}"
    return f"; the answer is stored, for {lasting(judged.entry.fresh_until - time.monotonic())}"


def decide(told: Explanation, request: Request, question: Question, entry: Entry) -> None:
    """Say what is done with a stored answer now: `rules/reuse`."""
    now = time.monotonic()
    verdict, reason = judge(entry, question.asked, now)
    step = told.step("Now", clause(reason.text), reason.source)
    left_s = entry.fresh_until - now
    fresh = f"fresh for {lasting(left_s)} more" if left_s > 0 else f"stale for {lasting(-left_s)}"
    step.add(f"{lasting(now - entry.born_at)} old, {fresh}", "RFC 9111 §4.2.3")
    if verdict is not Verdict.VALIDATE:
        step.tone = "good"
        status = entry.status
        if evaluate_stored(request.fields, entry, int(time.time())) is Outcome.NOT_MODIFIED:
            status = 304
        also = ""
        if verdict is Verdict.SERVE_AND_REFRESH:
            also = ", and it is refreshed in the background"
        told.outcome = Fact(
            text=f"A hit: {status} from the cache at once{also}.", source=reason.source, tone="good"
        )
        return
    step.tone = "warn"
    conditions = conditional_fields([entry])
    for name, value in conditions:
        step.add(f"the upstream is asked with {text(name)}: {text(value)}", "RFC 9111 §4.3.1")
    allowed, why = may_serve_on_error(entry, question.asked, now)
    step.add(
        f"if it fails: {'the stale answer is served' if allowed else 'its error is passed on'}"
        f" ({clause(why.text)})",
        why.source,
        "quiet",
    )
    asked = "validated with the upstream" if conditions else "fetched anew: it has no validator"
    told.outcome = Fact(
        text=f"It is {asked} before it is served.", source=reason.source, tone="warn"
    )
