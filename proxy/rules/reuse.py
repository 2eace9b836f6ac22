"""May a stored answer be used for this request as it is? RFC 9111 §4, §4.2.4, §5.2.1, RFC 5861.

Pure: `now` and the times of an entry are seconds of one monotonic clock. What the answer itself
says was judged when it was stored, so a hit compares two times. Request directives are advice to
a cache (§5.2.1); all of them are taken here.
"""

import enum
from typing import Final, Protocol

from proxy.rules.cache_control import NOTHING_ASKED, RequestDirectives
from proxy.rules.reasons import Reason


class Verdict(enum.IntEnum):
    """What to do with a stored answer that fits the request."""

    HIT = enum.auto()
    STALE_HIT = enum.auto()
    SERVE_AND_REFRESH = enum.auto()
    VALIDATE = enum.auto()


class View(Protocol):
    """What an entry shows of itself.

    `swr_until` and `sie_until` are never before `fresh_until`, and are the same when the answer
    may not be served stale. `must_revalidate` stands for must-revalidate, proxy-revalidate and
    s-maxage alike (RFC 9111 §5.2.2.10). `no_cache` also holds for what was invalidated (§4.4).
    """

    born_at: float
    fresh_until: float
    swr_until: float
    sie_until: float
    no_cache: bool
    must_revalidate: bool


Decision = tuple[Verdict, Reason]

# What would end in one of these may end in a stored answer instead; other errors are answers of
# the origin's own. RFC 5861 §4.
ERROR_STATUSES: Final = frozenset((500, 502, 503, 504))

FRESH: Final = Reason("fresh", "It is younger than its lifetime.", "RFC 9111 §4.2")
STALE: Final = Reason("stale", "It is older than its lifetime.", "RFC 9111 §4.2.4")
NO_CACHE: Final = Reason(
    "no-cache", "It must be validated before every use.", "RFC 9111 §4, §4.4, §5.2.2.4"
)
MUST_REVALIDATE: Final = Reason(
    "must-revalidate",
    "It is stale, and the answer forbids to use it then.",
    "RFC 9111 §4.2.4, §5.2.2.2",
)
REVALIDATING: Final = Reason(
    "stale-while-revalidate", "It is stale, and is refreshed in the background.", "RFC 5861 §3"
)
MAX_STALE: Final = Reason(
    "max-stale", "The client takes it although it is stale.", "RFC 9111 §5.2.1.2"
)
TOO_STALE: Final = Reason(
    "request-max-stale", "It is more stale than the client takes.", "RFC 9111 §5.2.1.2"
)
TOO_OLD: Final = Reason(
    "request-max-age", "It is older than the client takes.", "RFC 9111 §5.2.1.1"
)
TOO_LATE: Final = Reason(
    "request-min-fresh", "It is not fresh for as long as the client asks.", "RFC 9111 §5.2.1.3"
)
ASKED_TO_VALIDATE: Final = Reason(
    "request-no-cache", "The client wants it validated first.", "RFC 9111 §5.2.1.4"
)
STALE_IF_ERROR: Final = Reason(
    "stale-if-error", "It is stale, and better than the upstream's error.", "RFC 5861 §4"
)
ERROR_TOO_STALE: Final = Reason(
    "no-stale-if-error", "It is too stale to stand in for the upstream's error.", "RFC 5861 §4"
)

# Made once: a decision allocates nothing.
_HIT: Final[Decision] = (Verdict.HIT, FRESH)
_STALE_HIT: Final[Decision] = (Verdict.STALE_HIT, MAX_STALE)
_REFRESH: Final[Decision] = (Verdict.SERVE_AND_REFRESH, REVALIDATING)
_NO_CACHE: Final[Decision] = (Verdict.VALIDATE, NO_CACHE)
_STALE: Final[Decision] = (Verdict.VALIDATE, STALE)
_MUST_REVALIDATE: Final[Decision] = (Verdict.VALIDATE, MUST_REVALIDATE)
_TOO_STALE: Final[Decision] = (Verdict.VALIDATE, TOO_STALE)
_TOO_OLD: Final[Decision] = (Verdict.VALIDATE, TOO_OLD)
_TOO_LATE: Final[Decision] = (Verdict.VALIDATE, TOO_LATE)
_ASKED_TO_VALIDATE: Final[Decision] = (Verdict.VALIDATE, ASKED_TO_VALIDATE)


def judge(entry: View, asked: RequestDirectives, now: float) -> Decision:
    """Decide about a stored answer that matches the request's key and Vary. RFC 9111 §4.

    At the very end of its lifetime an answer is stale, and so are the windows after it shut at
    their ends. RFC 9111 §4.2.
    """
    if asked is NOTHING_ASKED:
        if now < entry.fresh_until:
            return _NO_CACHE if entry.no_cache else _HIT
        return _NO_CACHE if entry.no_cache else _stale(entry, now)
    if entry.no_cache:
        return _NO_CACHE
    refusal = _refusal(entry, asked, now)
    if refusal is not None:
        return refusal
    if now < entry.fresh_until:
        return _HIT
    return _stale_as_asked(entry, asked, now)


def _refusal(entry: View, asked: RequestDirectives, now: float) -> Decision | None:
    """Say what the client holds against a stored answer, fresh or stale. RFC 9111 §5.2.1."""
    if asked.no_cache:
        return _ASKED_TO_VALIDATE
    if asked.max_age is not None and now - entry.born_at > asked.max_age:
        return _TOO_OLD
    if asked.min_fresh is not None and entry.fresh_until - now < asked.min_fresh:
        return _TOO_LATE
    return None


def _stale(entry: View, now: float) -> Decision:
    if now < entry.swr_until:
        return _REFRESH
    return _MUST_REVALIDATE if entry.must_revalidate else _STALE


def _stale_as_asked(entry: View, asked: RequestDirectives, now: float) -> Decision:
    """Decide about a stale answer when the request has directives.

    Its max-stale is a permission, and a limit on what the answer permits. With max-age alone the
    client "does not wish to receive a stale response". RFC 9111 §5.2.1.1, §5.2.1.2.
    """
    if asked.max_stale is None:
        return _stale(entry, now) if asked.max_age is None else _STALE
    if now - entry.fresh_until > asked.max_stale:
        return _TOO_STALE
    decision = _stale(entry, now)
    return _STALE_HIT if decision == _STALE else decision


def may_serve_on_error(entry: View, asked: RequestDirectives, now: float) -> tuple[bool, Reason]:
    """Say whether a stored answer may stand in for a failure to validate or replace it.

    A failure is a status of ERROR_STATUSES, or none at all. The request's own stale-if-error
    decides before the answer's (RFC 5861 §4); neither moves must-revalidate (RFC 9111 §5.2.2.2).
    A request's max-age and min-fresh do not count: the directive holds "regardless of other
    freshness information". That a cache without its upstream may serve whatever is stale (RFC 9111
    §4.2.4) is not used; [route.cache] stale_if_error says it where it is wanted.
    """
    if entry.no_cache:
        return False, NO_CACHE
    if asked.no_cache:
        return False, ASKED_TO_VALIDATE
    if now < entry.fresh_until:
        return True, FRESH
    if entry.must_revalidate:
        return False, MUST_REVALIDATE
    if asked.stale_if_error is not None:
        allowed = now - entry.fresh_until <= asked.stale_if_error
    else:
        allowed = now < entry.sie_until
    return (True, STALE_IF_ERROR) if allowed else (False, ERROR_TOO_STALE)
