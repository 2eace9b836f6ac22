"""What may be stored, and what of it. RFC 9111 §3, §5.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields, Request
from proxy.rules import storing
from proxy.rules.cache_control import ResponseDirectives
from proxy.rules.cache_rule import CacheRule, Conditions
from proxy.rules.cache_tags import MOST_TAGS
from proxy.rules.freshness import HEURISTIC_STATUSES
from proxy.rules.name_patterns import compile_pairs
from proxy.rules.reasons import Reason
from proxy.rules.storing import may_store, stored_fields, worth_storing
from proxy.rules.targeted import governing_directives

PLAIN = CacheRule()
Lines = list[FieldLine]


def request(lines: Lines | None = None, method: bytes = b"GET") -> Request:
    return Request(method, b"/a", 1, Fields(lines or ()), b"/a", None, b"a.example", b"a.example")


def decide(
    answer: Lines,
    asked: Lines | None = None,
    status: int = 200,
    rule: CacheRule = PLAIN,
    *,
    method: bytes = b"GET",
    complete: bool = True,
    partial: bool = False,
) -> tuple[bool, Reason]:
    fields = Fields(answer)
    directives = governing_directives(fields, rule)
    asking = request(asked, method)
    return may_store(asking, status, fields, directives, rule, complete=complete, partial=partial)


def control(value: bytes) -> FieldLine:
    return (b"Cache-Control", value)


def ignoring(*fields: bytes) -> CacheRule:
    return CacheRule(ignore=frozenset(fields))


FRESH = control(b"max-age=60")
EXPIRES = (b"Expires", b"Thu, 01 Dec 2044 16:00:00 GMT")
LOGIN = (b"Authorization", b"Basic YTph")
COOKIE = (b"Cookie", b"session=1; lang=de")
SET_COOKIE = (b"Set-Cookie", b"session=1")
MODIFIED = (b"Last-Modified", b"Thu, 01 Dec 1994 16:00:00 GMT")


@pytest.mark.parametrize("method", [b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"get", b"X"])
def test_only_answers_to_get_are_stored(method: bytes) -> None:
    """RFC 9111 §3: the method is understood; RFC 9110 §9.3.2: a HEAD has no content to store."""
    assert decide([FRESH]) == (True, storing.EXPLICIT)
    assert decide([FRESH], method=method) == (False, storing.METHOD)


@pytest.mark.parametrize(
    ("value", "rule", "stored"),
    [
        (b"no-store", PLAIN, False),
        (b"No-Store=1, max-age=5", PLAIN, False),
        (b"max-age=0", PLAIN, True),
        (b"no-cache", PLAIN, True),
        (b"no-store", ignoring(b"request-cache-control"), True),
        (b"no-store", ignoring(b"cache-control", b"expires"), False),
    ],
)
def test_a_request_may_forbid_to_store(value: bytes, rule: CacheRule, stored: bool) -> None:
    """RFC 9111 §5.2.1.5."""
    asked = [control(value)]
    answer = [FRESH, (b"CDN-Cache-Control", b"max-age=60")]
    assert decide(answer, asked, rule=rule)[0] == stored
    assert stored or decide(answer, asked, rule=rule)[1] == storing.REQUEST_NO_STORE


def test_a_condition_of_the_rule_may_forbid_to_store() -> None:
    rule = CacheRule(no_store=Conditions(cookies=compile_pairs([b"session"])))
    assert decide([FRESH], [COOKIE], rule=rule) == (False, storing.RULE_NO_STORE)
    assert decide([FRESH], [(b"Cookie", b"lang=de")], rule=rule) == (True, storing.EXPLICIT)


FINAL = [
    200, 201, 202, 203, 204, 205, 299, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405,
    406, 408, 409, 410, 411, 413, 414, 415, 421, 422, 425, 426, 451, 499, 500, 501, 502, 503, 504,
    505, 599,
]  # fmt: skip


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("said", [FRESH, control(b"s-maxage=60"), EXPIRES])
def test_an_answer_of_any_status_is_stored_when_it_states_a_lifetime(
    status: int, said: FieldLine
) -> None:
    """RFC 9111 §3."""
    assert decide([said], status=status) == (True, storing.EXPLICIT)
    assert decide([control(b"public")], status=status) == (True, storing.PUBLIC)
    assert not decide([said, control(b"no-store")], status=status)[0]


@pytest.mark.parametrize("status", FINAL)
def test_an_answer_that_states_no_lifetime_is_stored_by_its_status(status: int) -> None:
    """RFC 9111 §3, §4.2.2."""
    known = status in HEURISTIC_STATUSES
    reason = storing.BY_STATUS if known else storing.NO_FRESHNESS
    assert decide([], status=status) == (known, reason)
    assert decide([control(b"foo=1, immutable")], status=status) == (known, reason)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (100, storing.INTERIM),  # RFC 9111 §3: final
        (101, storing.INTERIM),
        (103, storing.INTERIM),
        (304, storing.ONE_REQUEST),  # RFC 9110 §15.4.5
        (412, storing.ONE_REQUEST),  # RFC 9110 §15.5.13
        (416, storing.ONE_REQUEST),  # RFC 9110 §15.5.17
        (417, storing.ONE_REQUEST),  # RFC 9110 §15.5.18
        (428, storing.NEVER),  # RFC 6585 §3
        (429, storing.NEVER),  # RFC 6585 §4
        (431, storing.NEVER),  # RFC 6585 §5
        (511, storing.NEVER),  # RFC 6585 §6
    ],
)
def test_some_statuses_are_never_stored(status: int, reason: Reason) -> None:
    everything = CacheRule(force_ttl_s=60, status_ttl_s={status: 60.0})
    assert decide([control(b"public, max-age=60")], status=status) == (False, reason)
    assert decide([FRESH], status=status, rule=everything) == (False, reason)


BYTES = (b"Content-Range", b"bytes 0-99/1000")


@pytest.mark.parametrize(
    ("section", "status", "answer", "complete", "partial", "reason"),
    [
        ("§3.3 not as a whole", 206, [FRESH, BYTES], True, False, storing.PARTIAL),
        ("§3.3 as a part", 206, [FRESH, BYTES], True, True, storing.EXPLICIT),
        ("§3.3 by status", 206, [BYTES], True, True, storing.BY_STATUS),
        ("§3.3 any case", 206, [FRESH, (b"Content-Range", b"Bytes 0-9/*")], True, True,
         storing.EXPLICIT),
        ("§3.3 unknown unit", 206, [FRESH, (b"Content-Range", b"lines 0-9/90")], True, True,
         storing.PARTIAL),
        ("§3.3 several ranges", 206, [FRESH, (b"Content-Type", b"multipart/byteranges")], True,
         True, storing.PARTIAL),
        ("§3 must-understand", 206, [control(b"must-understand, no-store, max-age=1"), BYTES], True,
         True, storing.EXPLICIT),
        ("§3.3 no-store", 206, [control(b"no-store"), BYTES], True, True, storing.NO_STORE),
        ("§3.3 broken off", 200, [FRESH], False, False, storing.INCOMPLETE),
        ("§3.3 recorded as such", 200, [FRESH], False, True, storing.EXPLICIT),
        ("§3.3 a part of a part", 206, [FRESH, BYTES], False, True, storing.EXPLICIT),
        ("§3.3 only 200", 404, [FRESH], False, True, storing.INCOMPLETE),
        ("RFC 9110 §14.4 meaningless", 200, [FRESH, BYTES], True, False, storing.EXPLICIT),
    ],
)  # fmt: skip
def test_parts_are_stored_only_as_parts(
    section: str, status: int, answer: Lines, complete: bool, partial: bool, reason: Reason
) -> None:
    """RFC 9111 §3.3."""
    stored, why = decide(answer, status=status, complete=complete, partial=partial)
    assert why == reason, section
    assert stored == (reason in {storing.EXPLICIT, storing.BY_STATUS})


STATED = b"public, max-age=60, "


@pytest.mark.parametrize(
    ("section", "value", "status", "reason"),
    [
        ("§5.2.2.5", b"no-store", 200, storing.NO_STORE),
        ("§5.2.2.5", STATED + b"no-store", 200, storing.NO_STORE),
        ("§5.2.2.3", b"must-understand, no-store, max-age=60", 200, storing.EXPLICIT),
        ("§5.2.2.3", b"must-understand, no-store, max-age=60", 299, storing.NOT_UNDERSTOOD),
        ("§5.2.2.3", b"must-understand, max-age=60", 599, storing.NOT_UNDERSTOOD),
        ("§5.2.2.3", b"must-understand=1, no-store, max-age=60", 200, storing.NO_STORE),
        ("§5.2.2.3", b"must-understand, private", 200, storing.PRIVATE),
        ("§5.2.2.3", b"must-understand, no-store", 302, storing.NO_FRESHNESS),
        ("§5.2.2.7", b"private", 200, storing.PRIVATE),
        ("§5.2.2.7", STATED + b"private", 200, storing.PRIVATE),
        ("§5.2.2.7", b'max-age=60, private="x-user"', 200, storing.EXPLICIT),
        ("§5.2.2.7", b'max-age=60, private="x-user", private', 200, storing.PRIVATE),
        ("§5.2.2.7", b'max-age=60, private="', 200, storing.PRIVATE),
        ("§5.2.2.4", b"no-cache", 200, storing.BY_STATUS),
        ("§5.2.2.4", b"no-cache", 302, storing.NO_FRESHNESS),
        ("§5.2.2.4", b"no-cache, max-age=60", 302, storing.EXPLICIT),
        ("§5.2.2.8", b"proxy-revalidate", 302, storing.NO_FRESHNESS),
        ("§5.2.2.2", b"must-revalidate", 302, storing.NO_FRESHNESS),
        ("§5.2.2.9", b"public", 302, storing.PUBLIC),
        ("§5.2.3", b'private, community="UCI"', 200, storing.PRIVATE),
        ("§4.2.1", b"max-age=0", 200, storing.EXPLICIT),
        ("§4.2.1", b"max-age=x", 200, storing.EXPLICIT),
        ("§4.2.1", b"s-maxage=x", 200, storing.EXPLICIT),
        ("§4.2.1", b"max-age=x", 302, storing.NO_FRESHNESS),
        ("§4.2.1", b"s-maxage=0", 302, storing.NO_FRESHNESS),
    ],
)
def test_what_the_directives_of_an_answer_allow(
    section: str, value: bytes, status: int, reason: Reason
) -> None:
    allowed = {storing.EXPLICIT, storing.PUBLIC, storing.BY_STATUS}
    assert decide([control(value)], status=status) == (reason in allowed, reason), section


@pytest.mark.parametrize(
    ("value", "shared"),
    [
        (b"max-age=60", False),
        (b"max-age=60, proxy-revalidate", False),
        (b'max-age=60, private="a"', False),
        (b"max-age=60, public", True),
        (b"max-age=60, must-revalidate", True),
        (b"s-maxage=60", True),
        (b"s-maxage=0", True),
        (b"s-maxage=x, max-age=60", False),
        (b"max-age=60, must-revalidate=1", False),
        (b"max-age=60, public=1", False),
        (b"max-age=60; public", False),
    ],
)
def test_an_authorized_answer_is_stored_only_when_it_is_to_be_shared(
    value: bytes, shared: bool
) -> None:
    """RFC 9111 §3.5."""
    stored, reason = decide([control(value)], [LOGIN])
    assert stored == shared
    assert stored or reason == storing.AUTHORIZATION
    assert decide([control(value)], [LOGIN], rule=ignoring(b"authorization"))[0]
    assert decide([control(value)])[0]


FORCED = CacheRule(ignore=frozenset({b"set-cookie"}), force_ttl_s=60)


@pytest.mark.parametrize(
    ("value", "rule", "reason"),
    [
        (b"public, max-age=60", PLAIN, storing.SET_COOKIE),
        (b"s-maxage=60", PLAIN, storing.SET_COOKIE),
        (b"max-age=60", ignoring(b"set-cookie"), storing.SET_COOKIE_NOT_SHARED),
        (b"foo", ignoring(b"set-cookie"), storing.SET_COOKIE_NOT_SHARED),
        (b"public, max-age=60", ignoring(b"set-cookie"), storing.EXPLICIT),
        (b"s-maxage=60", ignoring(b"set-cookie"), storing.EXPLICIT),
        (b"max-age=60", FORCED, storing.EXPLICIT),
        (b"private", FORCED, storing.PRIVATE),
        (b'max-age=60, private="Set-Cookie"', PLAIN, storing.EXPLICIT),
        (b'max-age=60, no-cache="set-cookie, a"', PLAIN, storing.EXPLICIT),
        (b'max-age=60, no-cache="set-cookie2"', PLAIN, storing.SET_COOKIE),
    ],
)
def test_an_answer_with_a_cookie_is_stored_when_it_and_the_rule_say_so(
    value: bytes, rule: CacheRule, reason: Reason
) -> None:
    answer = [control(value), SET_COOKIE]
    assert decide(answer, rule=rule) == (reason == storing.EXPLICIT, reason)
    fields = Fields(answer)
    assert SET_COOKIE not in stored_fields(fields, governing_directives(fields, rule))


@pytest.mark.parametrize(
    ("vary", "stored"),
    [(b"*", False), (b"accept, *", False), (b"accept", True), (b"", True), (b"**", True)],
)
def test_vary_star_fits_no_other_request(vary: bytes, stored: bool) -> None:
    """RFC 9111 §4.1."""
    answer = [FRESH, (b"Vary", vary)]
    reason = storing.EXPLICIT if stored else storing.VARY_ANYTHING
    assert decide(answer) == (stored, reason)
    assert decide(answer, rule=ignoring(b"vary"))[0]


def test_an_answer_with_more_tags_than_are_kept_is_not_stored() -> None:
    tags = b" ".join(b"%d" % number for number in range(MOST_TAGS + 1))
    assert decide([FRESH, (b"xkey", tags)]) == (False, storing.TOO_MANY_TAGS)


@pytest.mark.parametrize(
    ("answer", "status", "rule", "reason"),
    [
        ([], 500, PLAIN, storing.NO_FRESHNESS),
        ([], 500, CacheRule(status_ttl_s={500: 2.0}), storing.BY_RULE),
        ([], 503, CacheRule(status_ttl_s={500: 2.0}), storing.NO_FRESHNESS),
        ([], 500, CacheRule(default_ttl_s=2), storing.NO_FRESHNESS),
        ([], 500, CacheRule(force_ttl_s=2), storing.NO_FRESHNESS),
        ([], 302, CacheRule(force_ttl_s=2), storing.NO_FRESHNESS),
        ([], 200, CacheRule(default_ttl_s=2), storing.BY_RULE),
        ([], 404, CacheRule(default_ttl_s=2), storing.BY_RULE),
        ([], 200, CacheRule(force_ttl_s=2), storing.BY_RULE),
        ([], 404, CacheRule(force_ttl_s=2), storing.BY_STATUS),
        ([EXPIRES], 302, ignoring(b"expires"), storing.NO_FRESHNESS),
        ([EXPIRES, (b"CDN-Cache-Control", b"none")], 302, PLAIN, storing.NO_FRESHNESS),
        ([control(b"no-store")], 200, CacheRule(force_ttl_s=2), storing.NO_STORE),
        ([control(b"no-store")], 200, ignoring(b"cache-control"), storing.BY_STATUS),
        ([control(b"no-store"), (b"CDN-Cache-Control", b"max-age=9")], 200, PLAIN,
         storing.EXPLICIT),
        ([FRESH, (b"CDN-Cache-Control", b"no-store")], 200, PLAIN, storing.NO_STORE),
    ],
)  # fmt: skip
def test_what_a_rule_and_targeted_fields_allow(
    answer: Lines, status: int, rule: CacheRule, reason: Reason
) -> None:
    allowed = {storing.EXPLICIT, storing.BY_RULE, storing.BY_STATUS}
    assert decide(answer, status=status, rule=rule) == (reason in allowed, reason)


ETAG = (b"ETag", b'"a"')


@pytest.mark.parametrize(
    ("lines", "lifetime_s", "age_s", "stale_s", "no_cache", "reason"),
    [
        ([], 60, 0, 0, False, storing.USABLE),
        ([], 60, 60, 0, False, storing.USELESS),
        ([], 60, 60, 1, False, storing.USABLE),
        ([], 0, 0, 0, False, storing.USELESS),
        ([], -100, 0, 60, False, storing.USELESS),
        ([], 60, 0, 60, True, storing.USELESS),
        ([ETAG], 0, 0, 0, False, storing.TO_VALIDATE),
        ([ETAG], 60, 0, 0, True, storing.TO_VALIDATE),
        ([MODIFIED], -5, 0, 0, False, storing.TO_VALIDATE),
    ],
)
def test_what_can_never_be_used_is_not_worth_storing(
    lines: Lines,
    lifetime_s: float,
    age_s: float,
    stale_s: float,
    no_cache: bool,
    reason: Reason,
) -> None:
    """RFC 9111 §3, at its end."""
    assert worth_storing(
        Fields(lines), lifetime_s=lifetime_s, age_s=age_s, stale_s=stale_s, no_cache=no_cache
    ) == (reason != storing.USELESS, reason)


@pytest.mark.parametrize(
    ("section", "lines", "kept"),
    [
        ("§3.1 unknown ones", [(b"X-New", b"1"), (b"Age", b"5")], [b"X-New", b"Age"]),
        ("§3.1 order", [(b"B", b"1"), (b"A", b"2"), (b"B", b"3")], [b"B", b"A", b"B"]),
        ("§3.1 Connection", [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"A", b"2")], [b"A"]),
        ("§3.1 the hop", [(b"Keep-Alive", b"1"), (b"Transfer-Encoding", b"chunked")], []),
        ("§3.1 upgrades", [(b"Upgrade", b"h2c"), (b"TE", b"trailers")], []),
        ("§3.1 proxies", [(b"Proxy-Authenticate", b"Basic"), (b"Proxy-Authorization", b"x")], []),
        ("§3.1 proxies", [(b"Proxy-Authentication-Info", b"x"), (b"A", b"1")], [b"A"]),
        ("§5.2.2.7", [control(b'private="X-User"'), (b"x-user", b"1")], [b"Cache-Control"]),
        ("§5.2.2.4", [control(b'no-cache="X-User"'), (b"X-USER", b"1")], [b"Cache-Control"]),
        ("no cookie twice", [(b"Set-Cookie", b"a=1"), (b"set-cookie2", b"a=1"), (b"A", b"1")],
         [b"A"]),
    ],
)  # fmt: skip
def test_which_fields_are_stored(section: str, lines: Lines, kept: list[bytes]) -> None:
    """RFC 9111 §3.1."""
    fields = Fields(lines)
    stored = stored_fields(fields, governing_directives(fields, PLAIN))
    assert [name for name, _ in stored] == kept, section
    assert all(line in lines for line in stored)


VALUES = st.sampled_from(
    b"no-store|private|public|max-age=60|s-maxage=5|must-understand|no-cache|max-age=x|"
    b'must-revalidate|private="a"|x="|no-store;'.split(b"|")
)
ANSWERS = st.lists(
    st.one_of(
        st.tuples(st.just(b"Cache-Control"), st.lists(VALUES, max_size=4).map(b", ".join)),
        st.sampled_from([SET_COOKIE, EXPIRES, MODIFIED, ETAG, BYTES, (b"Vary", b"*")]),
        st.tuples(st.sampled_from([b"Vary", b"Expires", b"Content-Range"]), st.binary(max_size=9)),
    ),
    max_size=5,
)
ASKED = st.lists(st.sampled_from([LOGIN, COOKIE, control(b"max-age=0"), control(b"no-store")]))
STATUSES = st.integers(min_value=100, max_value=599)


@given(STATUSES, ANSWERS, ASKED, st.booleans(), st.booleans())
def test_nothing_that_the_standard_forbids_is_stored(
    status: int, answer: Lines, asked: Lines, complete: bool, partial: bool
) -> None:
    """Each condition of RFC 9111 §3, put again in its own words."""
    stored, _ = decide(answer, asked, status, complete=complete, partial=partial)
    if not stored:
        return
    fields = Fields(answer)
    said = governing_directives(fields, PLAIN)
    assert status >= 200
    assert status != 304
    assert status != 206 or partial
    assert complete or (partial and status in {200, 206})
    assert said.must_understand or not said.no_store
    assert not said.private
    assert LOGIN not in asked or said.public or said.must_revalidate or said.s_maxage is not None
    assert control(b"no-store") not in asked
    assert SET_COOKIE not in answer
    assert (
        said.public
        or said.max_age is not None
        or said.s_maxage is not None
        or b"expires" in fields
        or status in HEURISTIC_STATUSES
    )


@given(STATUSES, ANSWERS)
def test_no_answer_raises(status: int, answer: Lines) -> None:
    fields = Fields(answer)
    stored = stored_fields(fields, ResponseDirectives())
    assert SET_COOKIE not in stored


def test_reasons_have_codes_of_their_own() -> None:
    reasons = [value for value in vars(storing).values() if isinstance(value, Reason)]
    assert len({reason.code for reason in reasons}) == len(reasons) > 20
