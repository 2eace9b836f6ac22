"""Makes an entry of an answer that may be stored, and says why another may not. RFC 9111 §3."""

from collections.abc import Sequence
from typing import Final

from proxy.cache.entry import Entry
from proxy.message import FieldLine, Fields, Request, Response
from proxy.pipeline.question import OF_ONE_CLIENT, Question
from proxy.rules.cache_control import ResponseDirectives
from proxy.rules.cache_groups import GROUPS, group_tags
from proxy.rules.cache_key import variant_names
from proxy.rules.cache_rule import CacheRule
from proxy.rules.cache_tags import tags_of
from proxy.rules.conditions import rule_for
from proxy.rules.dates import format_date
from proxy.rules.freshness import (
    age_value,
    date_value,
    initial_age_s,
    lifetime,
    stale_forbidden,
    stale_windows,
)
from proxy.rules.partial import slice_size
from proxy.rules.reasons import Reason
from proxy.rules.storing import (
    AUTHORIZATION,
    answer_may_be_stored,
    forbidden_by_request,
    may_store,
    stored_fields,
    worth_storing,
)
from proxy.rules.targeted import governing_directives
from proxy.rules.validation import updated_fields
from proxy.rules.validators import strong_validator

OF_ONE_MESSAGE: Final = frozenset((b"age", b"date"))


class Times:
    """When a request went upstream and its answer came, by the wall clock; and that, monotonic.

    `stale_s` is for how long it had been stale, by the worker that had it: after a soft purge its
    age does not tell.
    """

    __slots__ = ("now", "request_at", "response_at", "stale_s")

    def __init__(
        self, request_at: float, response_at: float, now: float, stale_s: float = 0.0
    ) -> None:
        self.request_at = request_at
        self.response_at = response_at
        self.now = now
        self.stale_s = stale_s


class Judged:
    """An entry without its content, None when the answer may not be stored; and why.

    `names` are those of the request fields by which the answer is told apart from others.
    """

    __slots__ = ("entry", "names", "reason")

    def __init__(self, entry: Entry | None, reason: Reason, names: tuple[bytes, ...] = ()) -> None:
        self.entry = entry
        self.reason = reason
        self.names = names


class Understood:
    """What the head of an answer says to a cache under one rule, whoever asks, and when.

    `lines` are those that are stored, None for all; `authorized` is what was asked for with
    Authorization.
    """

    __slots__ = (
        "allowed",
        "authorized",
        "directives",
        "fields",
        "names",
        "reason",
        "rule",
        "stored",
        "tags",
    )

    def __init__(
        self, status: int, fields: Fields, rule: CacheRule, *, authorized: bool, partial: bool
    ) -> None:
        directives = governing_directives(fields, rule)
        self.fields = fields
        self.rule = rule
        self.authorized = authorized
        self.directives = directives
        self.names = told_apart_by(fields, directives, rule)
        self.allowed, self.reason = answer_may_be_stored(
            status, fields, directives, rule, authorized=authorized, partial=partial
        )
        self.stored = fields
        self.tags: tuple[bytes, ...] = ()
        if self.allowed:
            kept = stored_fields(fields, directives)
            if len(kept) < len(fields.lines):
                self.stored = Fields(kept)
            self.tags = tags_of(fields)


def understood(
    request: Request, question: Question, response: Response, now: int
) -> tuple[Understood, bool]:
    """Read the head of an answer, or take what was read of the same head before.

    Says, too, whether the answer is the slice that was asked for.
    """
    authorized = b"authorization" in request.fields
    same_head = response.same_head
    known = None if same_head is None else same_head.understood
    fields = known.fields if isinstance(known, Understood) else Fields(response.fields)
    rule = rule_for(question.rule, request, response.status, fields)
    partial = question.part is not None and is_slice(question, response.status, fields, now)
    if (
        isinstance(known, Understood)
        and known.rule is rule
        and known.authorized == authorized
        and not partial
    ):
        return known, False
    made = Understood(response.status, fields, rule, authorized=authorized, partial=partial)
    if same_head is not None and not partial:
        same_head.understood = made
    return made, partial


def judge_answer(
    request: Request, question: Question, response: Response, times: Times, purge_seq: int
) -> Judged:
    """Say whether `response` may be stored as the answer to `request`, and make the entry."""
    read, is_part = understood(request, question, response, int(times.response_at))
    rule, fields, names = read.rule, read.fields, read.names
    refusal = forbidden_by_request(request, rule)
    if refusal is not None:
        return Judged(None, refusal, names or ())
    if not read.allowed or names is None:
        return Judged(None, read.reason, names or ())
    stored = read.stored
    if b"date" not in fields:  # RFC 9110 §6.6.1
        stored = Fields([*stored.lines, (b"Date", format_date(int(times.response_at)))])
    tags = read.tags
    if GROUPS in fields:
        tags += group_tags(fields, origin_of(question, request))
    entry = Entry(
        key=question.key if question.part is None or is_part else question.part.whole_key,
        variant=question.variant(names),
        vary=names,
        status=response.status,
        reason=response.reason,
        fields=stored,
        body=b"",
        request_at=times.request_at,
        response_at=times.response_at,
        born_at=0.0,
        fresh_until=0.0,
        swr_until=0.0,
        sie_until=0.0,
        keep_until=0.0,
        tags=tags,
        purge_seq=purge_seq,
    )
    fresh_s, age_s = set_times(entry, fields, read.directives, rule, times)
    useful, why = worth_storing(
        entry.fields,
        lifetime_s=fresh_s,
        age_s=age_s,
        stale_s=max(entry.swr_until, entry.sie_until) - entry.fresh_until,
        no_cache=entry.no_cache,
    )
    return Judged(entry, read.reason, names) if useful else Judged(None, why, names)


def is_slice(question: Question, status: int, fields: Fields, now: int) -> bool:
    """Whether an answer is the slice that was asked for, and can be put to others."""
    part = question.part
    if part is None or strong_validator(fields, now) is None:
        return False
    return slice_size(part.number, part.slice_bytes, status, fields) is not None


def told_apart_by(
    fields: Fields, directives: ResponseDirectives, rule: CacheRule
) -> tuple[bytes, ...] | None:
    """Return the names of the request fields by which an answer is told apart; None for `*`.

    Without those that are of one client, and never sent with what is fetched for all.
    """
    names = variant_names(fields, directives, rule)
    if names is None or OF_ONE_CLIENT.isdisjoint(names):
        return names
    return tuple(name for name in names if name not in OF_ONE_CLIENT)


def origin_of(question: Question, request: Request) -> bytes:
    """Return the origin of what is asked for. RFC 9110 §4.3.1."""
    return b"%b://%b" % (question.scheme, request.authority)


def set_times(
    entry: Entry, fields: Fields, directives: ResponseDirectives, rule: CacheRule, times: Times
) -> tuple[float, float]:
    """Say from when and until when an entry is fresh, and what may be done with it afterwards.

    Returns its lifetime and its age, in seconds.
    """
    age_s = initial_age_s(
        age_value(fields),
        date_value(fields, times.response_at),
        times.request_at,
        times.response_at,
    )
    fresh_s, _reason = lifetime(entry.status, fields, directives, rule, times.response_at, age_s)
    refreshing_s, failing_s = stale_windows(directives, rule)
    entry.request_at = times.request_at
    entry.response_at = times.response_at
    entry.born_at = times.now - age_s
    entry.fresh_until = entry.born_at + fresh_s
    if times.stale_s:
        entry.fresh_until = min(entry.fresh_until, times.now - times.stale_s)
    stale_from = entry.fresh_until
    entry.swr_until = stale_from + refreshing_s
    entry.sie_until = stale_from + failing_s
    entry.keep_until = max(entry.swr_until, entry.sie_until, times.now) + rule.keep_s
    entry.must_revalidate = stale_forbidden(directives) is not None
    entry.no_cache = directives.no_cache
    entry.lifetime_id = rule.lifetime_id
    entry.storing_id = rule.storing_id
    return fresh_s, age_s


def refreshed(
    entry: Entry,
    request: Request,
    question: Question,
    lines: Sequence[FieldLine],
    times: Times,
    purge_seq: int,
) -> bool:
    """Take into `entry` what a 304 says about it; False when it may not be kept any more.

    One that may be stored, but for who has asked, leaves it as it was. RFC 9111 §3.2, §4.3.4.
    """
    said = Fields(lines)
    fresh = Fields(stored_fields(said, governing_directives(said, question.rule)))
    fields = Fields(updated_fields(entry.fields, fresh))
    rule = rule_for(question.rule, request, entry.status, fields)
    directives = governing_directives(fields, rule)
    allowed, reason = may_store(
        request, entry.status, fields, directives, rule, partial=entry.status == 206
    )
    if reason is AUTHORIZATION:
        return True
    entry.set_fields(fields)
    # How old it is, this message alone says.
    lasting = [line for line in fields if line[0].lower() != b"date"]
    own = [line for line in lines if line[0].lower() in OF_ONE_MESSAGE]
    set_times(entry, Fields([*lasting, *own]), directives, rule, times)
    entry.tags = tags_of(fields) + group_tags(fields, origin_of(question, request))
    entry.purge_seq = purge_seq
    return allowed and told_apart_by(fields, directives, rule) == entry.vary
