"""How old an answer is, and for how long it is fresh. RFC 9111 §4.2, RFC 5861.

Pure: times come in as seconds since the epoch, durations are seconds. What an upstream says counts
from when the answer was generated, as the standard has it; what proxy.toml says counts from when
the answer came here, so that "10s" there means ten seconds even behind another cache.
"""

from typing import Final

from proxy.message import Fields
from proxy.rules.cache_control import FOREVER_S, ResponseDirectives, delta_seconds
from proxy.rules.cache_rule import CacheRule
from proxy.rules.dates import parse_date
from proxy.rules.reasons import Reason

# RFC 9110 §15.1, and 451 by RFC 7725 §3.
HEURISTIC_STATUSES: Final = frozenset(
    (200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 451, 501)
)

S_MAXAGE: Final = Reason("s-maxage", "The answer says s-maxage.", "RFC 9111 §5.2.2.10")
MAX_AGE: Final = Reason("max-age", "The answer says max-age.", "RFC 9111 §5.2.2.1")
EXPIRES: Final = Reason("expires", "The answer says when it expires.", "RFC 9111 §5.3")
EXPIRES_INVALID: Final = Reason(
    "expires-invalid", "Expires is no date: expired already.", "RFC 9111 §5.3"
)
HEURISTIC: Final = Reason(
    "heuristic", "A fraction of the time since the content was last changed.", "RFC 9111 §4.2.2"
)
UNKNOWN: Final = Reason(
    "no-lifetime", "Nothing says how long the answer is fresh.", "RFC 9111 §4.2.1"
)
FORCED: Final = Reason(
    "force-ttl", "The rule says how long, whatever the answer says.", "[route.cache] force_ttl"
)
STATUS: Final = Reason(
    "status-ttl", "The rule has a lifetime for this status.", "[route.cache] status_ttl"
)
DEFAULT: Final = Reason(
    "default-ttl", "The answer does not say, and the rule does.", "[route.cache] default_ttl"
)
RAISED: Final = Reason(
    "min-ttl", "The answer says less than the rule's least.", "[route.cache] min_ttl"
)
LOWERED: Final = Reason(
    "max-ttl", "The answer says more than the rule's most.", "[route.cache] max_ttl"
)

STALE_NO_CACHE: Final = Reason("no-cache", "no-cache forbids a stale answer.", "RFC 9111 §5.2.2.4")
STALE_MUST_REVALIDATE: Final = Reason(
    "must-revalidate", "must-revalidate forbids a stale answer.", "RFC 9111 §5.2.2.2"
)
STALE_PROXY_REVALIDATE: Final = Reason(
    "proxy-revalidate", "proxy-revalidate forbids a stale answer.", "RFC 9111 §5.2.2.8"
)
STALE_S_MAXAGE: Final = Reason("s-maxage", "s-maxage forbids a stale answer.", "RFC 9111 §5.2.2.10")


def age_value(fields: Fields) -> int | None:
    """Read Age, of a list its first member; None when absent or not a number. RFC 9111 §5.1."""
    value = fields.get(b"age")
    if value is None:
        return None
    members = (member.strip(b" \t") for member in value.split(b","))
    return delta_seconds(next(filter(None, members), None))


def date_value(fields: Fields, response_at: float) -> int | None:
    """Read Date; None when it is absent or broken: `response_at` counts then. RFC 9110 §6.6.1."""
    value = fields.get(b"date")
    return None if value is None else parse_date(value, int(response_at))


def initial_age_s(
    age: int | None, date: int | None, request_at: float, response_at: float
) -> float:
    """Return how old an answer was when it came: corrected_initial_age. RFC 9111 §4.2.3.

    Never negative, also when the clock was set back between the two times.
    """
    age_s = float(age or 0)
    if response_at > request_at:
        age_s += response_at - request_at
    if date is None:
        return age_s
    apparent_age = response_at - date
    return max(age_s, apparent_age)


def lifetime(
    status: int,
    fields: Fields,
    directives: ResponseDirectives,
    rule: CacheRule,
    response_at: float,
    age_s: float = 0.0,
) -> tuple[float, Reason]:
    """Return for how long an answer is fresh, counted from when it was generated, and why.

    `age_s` is its initial age. Negative when Expires is before Date. RFC 9111 §4.2.1.
    """
    decided = _forced(status, rule, age_s)
    if decided is None:
        decided = explicit_lifetime(fields, directives, rule, response_at)
        if decided is None:
            decided = _assigned(status, fields, directives, rule, response_at, age_s)
        decided = _raised(status, decided, rule, age_s)
    return decided if decided[0] <= age_s + rule.max_ttl_s else (age_s + rule.max_ttl_s, LOWERED)


def explicit_lifetime(
    fields: Fields, directives: ResponseDirectives, rule: CacheRule, response_at: float
) -> tuple[float, Reason] | None:
    """Return the lifetime that the answer itself states, None when it does not. RFC 9111 §4.2.1."""
    if directives.s_maxage is not None:
        return directives.s_maxage, S_MAXAGE
    if directives.max_age is not None:
        return directives.max_age, MAX_AGE
    if directives.targeted or b"expires" in rule.ignore:
        return None
    earliest: int | None = None
    for line in fields.get_all(b"expires"):
        expires = parse_date(line, int(response_at))
        if expires is None:
            return 0, EXPIRES_INVALID
        earliest = expires if earliest is None else min(earliest, expires)
    if earliest is None:
        return None
    date = date_value(fields, response_at)
    return min(earliest - (response_at if date is None else date), FOREVER_S), EXPIRES


def _forced(status: int, rule: CacheRule, age_s: float) -> tuple[float, Reason] | None:
    """Apply `force_ttl`, which leaves errors alone: for these there is `status_ttl`."""
    if rule.force_ttl_s is None:
        return None
    if status in rule.status_ttl_s:
        return age_s + rule.status_ttl_s[status], STATUS
    return (age_s + rule.force_ttl_s, FORCED) if status < 400 else None


def _assigned(
    status: int,
    fields: Fields,
    directives: ResponseDirectives,
    rule: CacheRule,
    response_at: float,
    age_s: float,
) -> tuple[float, Reason]:
    """Give an answer a lifetime that states none: by the rule, or the heuristic of §4.2.2."""
    if status in rule.status_ttl_s:
        return age_s + rule.status_ttl_s[status], STATUS
    if status not in HEURISTIC_STATUSES and not directives.public:
        return 0, UNKNOWN
    if rule.default_ttl_s is not None:
        return age_s + rule.default_ttl_s, DEFAULT
    modified = parse_date(fields.get(b"last-modified") or b"", int(response_at))
    if modified is None:
        return 0, UNKNOWN
    date = date_value(fields, response_at)
    generated = response_at if date is None else min(date, response_at)
    seconds = min((generated - modified) * rule.heuristic_fraction, rule.heuristic_max_s)
    return (seconds, HEURISTIC) if seconds > 0 else (0, UNKNOWN)


def _raised(
    status: int, decided: tuple[float, Reason], rule: CacheRule, age_s: float
) -> tuple[float, Reason]:
    """Apply `min_ttl`: not to errors, nor where nothing at all was said."""
    seconds, reason = decided
    least = age_s + rule.min_ttl_s
    if rule.min_ttl_s > 0 and seconds < least and status < 400 and reason not in {UNKNOWN, STATUS}:
        return least, RAISED
    return decided


def stale_forbidden(directives: ResponseDirectives) -> Reason | None:
    """Say what forbids that the answer is ever used stale, None when nothing does.

    RFC 9111 §4.2.4: s-maxage does, too, and so takes stale-while-revalidate beside it out of
    force; what is meant for shared caches only goes in CDN-Cache-Control, with max-age.
    """
    if directives.no_cache:
        return STALE_NO_CACHE
    if directives.must_revalidate:
        return STALE_MUST_REVALIDATE
    if directives.proxy_revalidate:
        return STALE_PROXY_REVALIDATE
    return STALE_S_MAXAGE if directives.s_maxage is not None else None


def stale_windows(directives: ResponseDirectives, rule: CacheRule) -> tuple[float, float]:
    """Return the stale-while-revalidate and the stale-if-error of an answer. RFC 5861 §3, §4.

    For that long after its lifetime it may be used while it is refreshed, and when that fails.
    """
    if stale_forbidden(directives) is not None:
        return 0.0, 0.0
    refreshing, failing = directives.stale_while_revalidate, directives.stale_if_error
    return (
        (rule.stale_while_revalidate_s or 0.0) if refreshing is None else refreshing,
        (rule.stale_if_error_s or 0.0) if failing is None else failing,
    )
