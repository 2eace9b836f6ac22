"""Why an answer may be stored or not, and for how long: the upstream's, or one that is stored."""

import asyncio
import time

from proxy.cache.entry import Entry
from proxy.errors import HttpError
from proxy.message import Fields, Request, Response
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.forward import forward
from proxy.pipeline.question import Question, fetching
from proxy.pipeline.store import Judged, Times, judge_answer
from proxy.rules.cache_control import ResponseDirectives
from proxy.rules.cache_key import vary_names
from proxy.rules.cache_rule import CacheRule
from proxy.rules.conditions import rule_for
from proxy.rules.freshness import (
    age_value,
    date_value,
    initial_age_s,
    lifetime,
    stale_forbidden,
    stale_windows,
)
from proxy.rules.reasons import Reason
from proxy.rules.storing import stored_fields
from proxy.rules.targeted import governing_directives, targeted_directives
from proxy.tools.findings import Explanation, Fact, Places, Step
from proxy.tools.running import answer_of, exchange_for
from proxy.tools.setting import Setting
from proxy.tools.words import clause, lasting, text

# Beyond the upstream's own timeouts, for a connection.
_PATIENCE_S = 90.0
# Past this, a lifetime that was given before and the one of today's rules are not the same.
_SAME_S = 1.5


def explain_fetch(
    told: Explanation,
    setting: Setting,
    exchange: Exchange,
    question: Question | None,
    places: Places,
) -> Judged | None:
    """Ask the upstream once, and say what of its answer would be stored: `pipeline/fetch`."""
    step = told.step("Upstream says")
    request_at = time.time()
    answer = ask(setting, exchange, question)
    if isinstance(answer, HttpError):
        step.verdict, step.tone = f"{answer.status}: {answer}", "bad"
        return None
    step.verdict, step.tone = str(answer.status), "good" if answer.status < 400 else "warn"
    for name, value in answer.fields:
        if name.lower() in _TELLING:
            step.add(f"{text(name)}: {text(value)}", "", "quiet")
    if question is None:
        return None
    times = Times(request_at, time.time(), time.monotonic())
    fetched = fetching(exchange.request, question.rule, [])
    judged = judge_answer(fetched, question, answer, times, 0)
    step = told.step("Storing", clause(judged.reason.text), places.reason(judged.reason))
    step.tone = "bad" if judged.entry is None else "good"
    fields = Fields(answer.fields)
    rule = governing_rule(step, fetched, answer.status, fields, question, places)
    directives = governing_directives(fields, rule)
    if judged.entry is None:
        step.add("it is passed on to this client alone, and the next one asks again")
        return judged
    fresh_s, reason = add_lifetime(step, answer.status, fields, (directives, rule), times)
    step.facts.insert(0, fresh_for(fresh_s, reason, places))
    add_windows(step, directives, rule, places)
    add_sharing(step, judged.entry, fields, rule, places)
    left_out = {name.lower() for name, _ in answer.fields}
    left_out -= {name.lower() for name, _ in stored_fields(fields, directives)}
    for name in sorted(left_out - _OF_THE_MESSAGE):
        step.add(f"{text(name)} is not stored", "RFC 9111 §3.1", "quiet")
    return judged


_TELLING = frozenset(
    b"""age cache-control cache-tag cdn-cache-control content-type date etag expires last-modified
    location pragma set-cookie surrogate-key vary xkey""".split()
)
_OF_THE_MESSAGE = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"via"))


def ask(setting: Setting, exchange: Exchange, question: Question | None) -> Response | HttpError:
    """Send the request as a worker would."""
    route = exchange.route
    sub = exchange_for(exchange.site, exchange.peer.scheme, exchange.peer.local_port)
    sub.origin = exchange.origin
    sub.request = exchange.request
    sub.route = route
    if question is not None and route is not None:
        sub.request = fetching(exchange.request, question.rule, [])
        sub.route = route.bare
    groups = setting.parts.groups.values()
    return asyncio.run(answer_of(sub, forward, groups, _PATIENCE_S))


def explain_lifetime(
    told: Explanation, entry: Entry, request: Request, question: Question, places: Places
) -> None:
    """Say why a stored answer is as fresh as it is, by the rules of today."""
    step = told.step("Lifetime")
    fields = entry.fields
    rule = governing_rule(step, request, entry.status, fields, question, places)
    directives = governing_directives(fields, rule)
    times = Times(entry.request_at, entry.response_at, time.monotonic())
    given_s = entry.fresh_until - entry.born_at
    now_s, reason = add_lifetime(step, entry.status, fields, (directives, rule), times)
    fresh = fresh_for(now_s, reason, places)
    step.verdict, step.source = fresh.text, fresh.source
    add_windows(step, directives, rule, places)
    if abs(given_s - now_s) > _SAME_S:
        step.add(
            f"but it has {lasting(given_s)}: it was purged, or stale before the rules changed",
            "",
            "warn",
        )
    add_sharing(step, entry, fields, rule, places)


def governing_rule(
    step: Step, request: Request, status: int, fields: Fields, question: Question, places: Places
) -> CacheRule:
    """Return the rule for an answer, and say which one it is when there are several."""
    rule = rule_for(question.rule, request, status, fields)
    for index, override in enumerate(question.rule.overrides):
        if override.rule is rule:
            step.add(
                f"the {index + 1}. of [[route.cache.rules]] is for it",
                places.route("cache", "rules", index),
            )
    for name in rule.targets:
        if targeted_directives(fields, (name,)) is not None:
            step.add(
                f"{text(name)} speaks to this cache, so Cache-Control does not", "RFC 9213 §2.2"
            )
            break
    return rule


def add_lifetime(
    step: Step,
    status: int,
    fields: Fields,
    governing: tuple[ResponseDirectives, CacheRule],
    times: Times,
) -> tuple[float, Reason]:
    """Return how long an answer is fresh, and why; say how old it was when it came."""
    directives, rule = governing
    age_s = initial_age_s(
        age_value(fields),
        date_value(fields, times.response_at),
        times.request_at,
        times.response_at,
    )
    if age_s >= 1:
        step.add(f"it was {lasting(age_s)} old when it came", "RFC 9111 §4.2.3")
    return lifetime(status, fields, directives, rule, times.response_at, age_s)


def fresh_for(seconds: float, reason: Reason, places: Places) -> Fact:
    """Say how long an answer is fresh."""
    because = clause(reason.text)
    if seconds <= 0:
        return Fact(text=f"never fresh: {because}", source=places.reason(reason))
    return Fact(text=f"fresh for {lasting(seconds)}: {because}", source=places.reason(reason))


def add_windows(
    step: Step, directives: ResponseDirectives, rule: CacheRule, places: Places
) -> None:
    """Say what may be done with an answer once it is stale."""
    forbidden = stale_forbidden(directives)
    if forbidden is not None:
        step.add(forbidden.text, forbidden.source)
    refreshing_s, failing_s = stale_windows(directives, rule)
    if refreshing_s:
        said = directives.stale_while_revalidate is not None
        step.add(
            f"then used for {lasting(refreshing_s)} while it is refreshed",
            "RFC 5861 §3" if said else places.cache("stale_while_revalidate"),
        )
    if failing_s:
        said = directives.stale_if_error is not None
        step.add(
            f"then used for {lasting(failing_s)} when the upstream fails",
            "RFC 5861 §4" if said else places.cache("stale_if_error"),
        )


def add_sharing(step: Step, entry: Entry, fields: Fields, rule: CacheRule, places: Places) -> None:
    """Say for whom an answer is."""
    named = vary_names(fields, rule.ignore) or ()
    if named:
        step.add(f"Vary: {text(b', '.join(named))}", "RFC 9111 §4.1")
    if b"cookie" in entry.vary and b"cookie" not in named:
        step.add(
            "only for the same cookies and Authorization: it is not public, and has no s-maxage",
            "[route.cache]",
        )
    elif b"authorization" in entry.vary and b"authorization" not in named:
        step.add("only for the same Authorization", places.cache("ignore"))
