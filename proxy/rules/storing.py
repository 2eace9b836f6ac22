"""Whether an answer may be stored, and what of it. RFC 9111 §3.

Pure. The conditions of §3 are asked in an order that names the weightiest reason first. For safety
more is asked than there: an answer with Set-Cookie is kept only when it says that it is for all
and the rule agrees. (Whose cookies an answer is for is the matter of `rules.cache_key`.)
"""

from typing import Final

from proxy.message import FieldLine, Fields, Request
from proxy.rules.cache_control import ResponseDirectives, parse_request
from proxy.rules.cache_key import vary_names
from proxy.rules.cache_rule import CacheRule
from proxy.rules.cache_tags import tags_fit
from proxy.rules.conditions import met
from proxy.rules.forwarding import HOP_BY_HOP, end_to_end
from proxy.rules.freshness import HEURISTIC_STATUSES
from proxy.rules.reasons import Reason
from proxy.rules.sendfile import TO_PROXYD

# The statuses whose meaning for caches is known and done here, for must-understand: those of
# RFC 9110 that answer the target itself, and 451 of RFC 7725.
UNDERSTOOD_STATUSES: Final = frozenset((
    200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308,
    400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 421, 422, 426, 451,
    500, 501, 502, 503, 504, 505,
))  # fmt: skip
# Answers to a precondition, a range or an expectation of one request, which no key holds.
_OF_ONE_REQUEST: Final = frozenset((304, 412, 416, 417))
# "MUST NOT be stored by a cache": RFC 6585 §3 to §6.
_NEVER: Final = frozenset((428, 429, 431, 511))

METHOD: Final = Reason("method", "Only answers to GET are stored.", "RFC 9111 §3")
REQUEST_NO_STORE: Final = Reason(
    "request-no-store", "The request says no-store.", "RFC 9111 §5.2.1.5"
)
RULE_NO_STORE: Final = Reason(
    "rule-no-store", "A condition of the rule holds.", "[route.cache] no_store"
)
INTERIM: Final = Reason("interim", "The answer is not the final one.", "RFC 9111 §3")
ONE_REQUEST: Final = Reason(
    "one-request", "The status answers a condition of this one request.", "RFC 9110 §13, §14"
)
NEVER: Final = Reason(
    "status-never", "An answer of this status is never stored.", "RFC 6585 §3, §4, §5, §6"
)
PARTIAL: Final = Reason(
    "partial", "A part without a range in bytes cannot be kept.", "RFC 9111 §3.3"
)
INCOMPLETE: Final = Reason("incomplete", "The answer broke off.", "RFC 9111 §3.3")
NOT_UNDERSTOOD: Final = Reason(
    "must-understand", "What the status means for caches is not known.", "RFC 9111 §5.2.2.3"
)
NO_STORE: Final = Reason("no-store", "The answer says no-store.", "RFC 9111 §5.2.2.5")
PRIVATE: Final = Reason("private", "The answer is for a single user.", "RFC 9111 §5.2.2.7")
AUTHORIZATION: Final = Reason(
    "authorization",
    "The request is authorized, and no public, must-revalidate or s-maxage shares its answer.",
    "RFC 9111 §3.5",
)
SET_COOKIE: Final = Reason(
    "set-cookie",
    "The answer sets a cookie, and the rule does not ignore it.",
    "[route.cache] ignore",
)
SET_COOKIE_NOT_SHARED: Final = Reason(
    "set-cookie-not-shared",
    "The answer sets a cookie, and neither public, s-maxage nor force_ttl says that it is for all.",
    "[route.cache] ignore",
)
VARY_ANYTHING: Final = Reason("vary", "Vary: * fits no other request.", "RFC 9111 §4.1")
TOO_MANY_TAGS: Final = Reason(
    "too-many-tags", "A purge by tag would miss an answer with so many.", "Cache-Tag"
)
NO_FRESHNESS: Final = Reason(
    "no-freshness", "Such a status is stored only with a lifetime of its own.", "RFC 9111 §3"
)
USELESS: Final = Reason(
    "useless", "Neither fresh nor with a validator: never of use.", "RFC 9111 §3"
)

EXPLICIT: Final = Reason("explicit", "The answer states how long it is fresh.", "RFC 9111 §3")
PUBLIC: Final = Reason("public", "The answer says public.", "RFC 9111 §5.2.2.9")
BY_RULE: Final = Reason("by-rule", "The rule has a lifetime for it.", "[route.cache] status_ttl")
BY_STATUS: Final = Reason("by-status", "Answers of this status may be stored.", "RFC 9111 §4.2.2")
USABLE: Final = Reason("usable", "It can be used without asking upstream.", "RFC 9111 §4.2")
TO_VALIDATE: Final = Reason("to-validate", "It can be validated.", "RFC 9111 §4.3")

_COOKIES: Final = frozenset((b"set-cookie", b"set-cookie2"))
_NOT_STORED: Final = HOP_BY_HOP | _COOKIES | TO_PROXYD


def may_store(
    request: Request,
    status: int,
    fields: Fields,
    directives: ResponseDirectives,
    rule: CacheRule,
    *,
    complete: bool = True,
    partial: bool = False,
) -> tuple[bool, Reason]:
    """Say whether an answer may be stored, and why. RFC 9111 §3.

    `complete` is False when it broke off. `partial` says that the caller keeps what is not whole as
    such (§3.3): without it neither a 206 nor what broke off may be stored.
    """
    refusal = forbidden_by_request(request, rule)
    if refusal is not None:
        return False, refusal
    authorized = b"authorization" in request.fields
    return answer_may_be_stored(
        status,
        fields,
        directives,
        rule,
        authorized=authorized,
        complete=complete,
        partial=partial,
    )


def answer_may_be_stored(
    status: int,
    fields: Fields,
    directives: ResponseDirectives,
    rule: CacheRule,
    *,
    authorized: bool,
    complete: bool = True,
    partial: bool = False,
) -> tuple[bool, Reason]:
    """Do as `may_store` for a request that forbids nothing; `authorized` is one with that field."""
    refusal = (
        _forbidden_by_status(status, fields, directives, complete, partial)
        or _forbidden_by_directives(authorized, directives, rule)
        or _forbidden_by_fields(fields, directives, rule)
    )
    if refusal is not None:
        return False, refusal
    return _allowed(status, fields, directives, rule)


def worth_storing(
    fields: Fields, *, lifetime_s: float, age_s: float, stale_s: float, no_cache: bool
) -> tuple[bool, Reason]:
    """Say whether an answer that may be stored can ever be of use, and how. RFC 9111 §3.

    `stale_s` is the longer of its two windows for stale use.
    """
    if not no_cache and lifetime_s + stale_s > age_s:
        return True, USABLE
    if b"etag" in fields or b"last-modified" in fields:
        return True, TO_VALIDATE
    return False, USELESS


def stored_fields(fields: Fields, directives: ResponseDirectives) -> list[FieldLine]:
    """Return the field lines of an answer that are stored, in order. RFC 9111 §3.1.

    Missing are those of the hop and of proxy authentication, those that private and no-cache name,
    what an application says to proxyd alone, and Set-Cookie: no cookie is ever given to a second
    client.
    """
    named = directives.private_fields | directives.no_cache_fields
    return end_to_end(fields, _NOT_STORED | named if named else _NOT_STORED)


def forbidden_by_request(request: Request, rule: CacheRule) -> Reason | None:
    """Say why no answer to this request may be stored; None when that depends on the answer."""
    if request.method != b"GET":
        return METHOD
    asked = request.fields.get(b"cache-control")
    if asked is not None and b"request-cache-control" not in rule.ignore:  # noqa: SIM102
        if parse_request(asked).no_store:
            return REQUEST_NO_STORE
    return RULE_NO_STORE if met(rule.no_store, request) else None


def _forbidden_by_status(
    status: int, fields: Fields, directives: ResponseDirectives, complete: bool, partial: bool
) -> Reason | None:
    if status < 200:
        return INTERIM
    if status in _OF_ONE_REQUEST:
        return ONE_REQUEST
    if status in _NEVER:
        return NEVER
    if status == 206:
        unit = (fields.get(b"content-range") or b"").lower()
        if not partial or not unit.startswith(b"bytes "):
            return PARTIAL
    elif directives.must_understand and status not in UNDERSTOOD_STATUSES:
        return NOT_UNDERSTOOD
    if not complete and not (partial and status in {200, 206}):
        return INCOMPLETE
    return None


def _forbidden_by_directives(
    authorized: bool, directives: ResponseDirectives, rule: CacheRule
) -> Reason | None:
    # must-understand puts a no-store beside it out of force once the status is understood.
    if directives.no_store and not directives.must_understand:
        return NO_STORE
    if directives.private:
        return PRIVATE
    if authorized and not directives.shared and b"authorization" not in rule.ignore:
        return AUTHORIZATION
    return None


def _forbidden_by_fields(
    fields: Fields, directives: ResponseDirectives, rule: CacheRule
) -> Reason | None:
    if fields.has_any(_COOKIES) and fields.has_any(
        _COOKIES - directives.private_fields - directives.no_cache_fields
    ):
        if b"set-cookie" not in rule.ignore:
            return SET_COOKIE
        for_all = directives.public or directives.s_maxage is not None
        if not for_all and rule.force_ttl_s is None:
            return SET_COOKIE_NOT_SHARED
    if vary_names(fields, rule.ignore) is None:
        return VARY_ANYTHING
    return None if tags_fit(fields) else TOO_MANY_TAGS


def _allowed(
    status: int,
    fields: Fields,
    directives: ResponseDirectives,
    rule: CacheRule,
) -> tuple[bool, Reason]:
    """Look for one of the things of which §3 wants at least one."""
    expires = b"expires" in fields and b"expires" not in rule.ignore and not directives.targeted
    # An invalid number was read as 0, and must not open what no number would.
    if directives.max_age or directives.s_maxage or expires:
        return True, EXPLICIT
    if directives.public:
        return True, PUBLIC
    if status in rule.status_ttl_s:
        return True, BY_RULE
    if status not in HEURISTIC_STATUSES:
        return False, NO_FRESHNESS
    if directives.max_age is not None or directives.s_maxage is not None:
        return True, EXPLICIT
    if rule.default_ttl_s is not None or (rule.force_ttl_s is not None and status < 400):
        return True, BY_RULE
    return True, BY_STATUS
