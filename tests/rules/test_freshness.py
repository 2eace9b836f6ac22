"""Age, freshness lifetimes and stale windows. RFC 9111 §4.2, §5.1, §5.3, RFC 5861."""

import re
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields
from proxy.rules import freshness
from proxy.rules.cache_control import FOREVER_S, ResponseDirectives, parse_response
from proxy.rules.cache_rule import CacheRule
from proxy.rules.dates import format_date
from proxy.rules.freshness import (
    age_value,
    date_value,
    initial_age_s,
    lifetime,
    stale_forbidden,
    stale_windows,
)
from proxy.rules.reasons import Reason
from proxy.rules.targeted import governing_directives

NOW = 1_700_000_000
DAY_S = 86_400
PLAIN = CacheRule()
Lines = list[FieldLine]


def date(offset_s: int = 0) -> FieldLine:
    return (b"Date", format_date(NOW + offset_s))


def expires(offset_s: int) -> FieldLine:
    return (b"Expires", format_date(NOW + offset_s))


def modified(ago_s: int) -> FieldLine:
    return (b"Last-Modified", format_date(NOW - ago_s))


def control(value: bytes) -> FieldLine:
    return (b"Cache-Control", value)


def life(
    lines: Lines, rule: CacheRule = PLAIN, status: int = 200, age_s: float = 0.0
) -> tuple[float, Reason]:
    fields = Fields(lines)
    return lifetime(status, fields, governing_directives(fields, rule), rule, NOW, age_s)


@pytest.mark.parametrize(
    ("value", "age"),
    [
        (b"0", 0),
        (b"60", 60),
        (b"060", 60),
        (b"99999999999", FOREVER_S),
        (b"60, 5", 60),
        (b", 60", 60),
        (b"", None),
        (b",", None),
        (b"-1", None),
        (b"1.5", None),
        (b"abc", None),
        (b"abc, 5", None),
        (b"6 0", None),
        (b"+5", None),
        (b'"5"', None),
    ],
)
def test_age_is_the_first_member_when_that_is_a_number(value: bytes, age: int | None) -> None:
    """RFC 9111 §5.1."""
    assert age_value(Fields([(b"Age", value)])) == age


def test_the_first_of_two_lines_of_age_counts() -> None:
    """RFC 9111 §5.1."""
    assert age_value(Fields([(b"Age", b"7"), (b"Age", b"3")])) == 7
    assert age_value(Fields()) is None


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [([date()], NOW), ([], None), ([(b"Date", b"today")], None), ([date(), date()], None)],
)
def test_a_date_that_is_none_leaves_the_time_of_receipt(lines: Lines, seconds: int | None) -> None:
    """RFC 9110 §6.6.1."""
    assert date_value(Fields(lines), NOW) == seconds


@pytest.mark.parametrize(
    ("case", "age", "generated", "request_at", "response_at", "expected"),
    [
        ("just generated", None, NOW, NOW, NOW, 0),
        ("apparent_age", None, NOW - 10, NOW, NOW, 10),
        ("apparent_age is not negative", None, NOW + 10, NOW, NOW, 0),
        ("no date", None, None, NOW, NOW, 0),
        ("age_value", 7, NOW, NOW, NOW, 7),
        ("response_delay", None, NOW, NOW - 3, NOW, 3),
        ("corrected_age_value", 7, NOW, NOW - 3, NOW, 10),
        ("the greater: corrected", 7, NOW - 5, NOW - 3, NOW, 10),
        ("the greater: apparent", 7, NOW - 50, NOW - 3, NOW, 50),
        ("the clock was set back", 7, NOW - 2, NOW + 100, NOW, 7),
        ("fractions", 1, None, NOW + 0.5, NOW + 0.75, 1.25),
    ],
)
def test_the_initial_age(
    case: str,
    age: int | None,
    generated: int | None,
    request_at: float,
    response_at: float,
    expected: float,
) -> None:
    """RFC 9111 §4.2.3."""
    assert initial_age_s(age, generated, request_at, response_at) == expected, case


ZERO = (b"Expires", b"0")

# What the answer itself says. RFC 9111 §4.2.1, §5.3.
EXPLICIT: list[tuple[str, Lines, float, Reason]] = [
    ("§4.2.1 s-maxage first", [control(b"max-age=5, s-maxage=9")], 9, freshness.S_MAXAGE),
    ("§4.2.1 s-maxage first", [control(b"max-age=9, s-maxage=5")], 5, freshness.S_MAXAGE),
    ("§4.2.1 then max-age", [control(b"max-age=5"), date(), expires(99)], 5, freshness.MAX_AGE),
    ("§5.3 s-maxage over Expires", [control(b"s-maxage=5"), expires(99)], 5, freshness.S_MAXAGE),
    ("§5.3 even when it is 0", [control(b"max-age=0"), date(), expires(99)], 0, freshness.MAX_AGE),
    ("§4.2.1 invalid is stale", [control(b"max-age=x"), expires(99)], 0, freshness.MAX_AGE),
    ("§4.2.1 then Expires - Date", [date(-100), expires(0)], 100, freshness.EXPIRES),
    ("§4.2.1 no clock skew", [date(5000), expires(5100)], 100, freshness.EXPIRES),
    ("§4.2.1 public says no time", [control(b"public"), date(), expires(9)], 9, freshness.EXPIRES),
    ("§4.2 in the past", [date(), expires(-100)], -100, freshness.EXPIRES),
    ("§5.3 no Date", [expires(100)], 100, freshness.EXPIRES),
    ("§5.3 broken Date", [(b"Date", b"x"), expires(100)], 100, freshness.EXPIRES),
    ("§5.3 zero", [date(), ZERO], 0, freshness.EXPIRES_INVALID),
    ("§5.3 invalid", [date(), (b"Expires", b"tomorrow")], 0, freshness.EXPIRES_INVALID),
    ("§5.3 empty", [date(), (b"Expires", b"")], 0, freshness.EXPIRES_INVALID),
    ("§4.2.1 two", [date(), expires(100), expires(50)], 50, freshness.EXPIRES),
    ("§4.2.1 two", [date(), expires(50), expires(100)], 50, freshness.EXPIRES),
    ("§4.2.1 two", [date(), expires(50), ZERO], 0, freshness.EXPIRES_INVALID),
    (
        "§4.2 two in one line",
        [date(), (b"Expires", format_date(NOW) + b", " + format_date(NOW))],
        0,
        freshness.EXPIRES_INVALID,
    ),
    (
        "§4.2 zone",
        [date(), (b"Expires", b"Wed, 15 Nov 2023 00:00:00 CET")],
        0,
        freshness.EXPIRES_INVALID,
    ),
    (
        "§4.2 any case",
        [(b"Date", b"tue, 14 nov 2023 22:13:20 gmt"), expires(60)],
        60,
        freshness.EXPIRES,
    ),
    (
        "RFC 9110 §5.6.7 RFC 850",
        [(b"Date", b"Tuesday, 14-Nov-23 22:13:20 GMT"), expires(60)],
        60,
        freshness.EXPIRES,
    ),
    (
        "RFC 9110 §5.6.7 asctime",
        [date(), (b"Expires", b"Tue Nov 14 22:14:20 2023")],
        60,
        freshness.EXPIRES,
    ),
    (
        "§1.2.2 too large",
        [date(), (b"Expires", b"Fri, 31 Dec 9999 23:59:59 GMT")],
        FOREVER_S,
        freshness.EXPIRES,
    ),
    (
        "RFC 9213 §2.2",
        [control(b"max-age=9"), (b"CDN-Cache-Control", b"max-age=5")],
        5,
        freshness.MAX_AGE,
    ),
    (
        "RFC 9213 §2.2 no Expires",
        [date(), expires(99), (b"CDN-Cache-Control", b"none")],
        0,
        freshness.UNKNOWN,
    ),
    (
        "RFC 8246 §2 no freshness of its own",
        [date(), control(b"immutable")],
        0,
        freshness.UNKNOWN,
    ),
]


@pytest.mark.parametrize(("section", "lines", "seconds", "reason"), EXPLICIT)
def test_the_lifetime_that_an_answer_states(
    section: str, lines: Lines, seconds: float, reason: Reason
) -> None:
    assert life(lines) == (seconds, reason), section
    if reason != freshness.UNKNOWN:  # and then at every status
        assert life(lines, status=599) == (seconds, reason), section


HEURISTIC = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 451, 501]
NOT_HEURISTIC = [201, 202, 302, 303, 307, 400, 401, 403, 500, 502, 503, 504, 299, 599]


@pytest.mark.parametrize("status", HEURISTIC)
def test_the_heuristic_holds_for_the_statuses_that_allow_it(status: int) -> None:
    """RFC 9111 §4.2.2, RFC 9110 §15.1."""
    assert life([date(), modified(1000)], status=status) == (100, freshness.HEURISTIC)


@pytest.mark.parametrize("status", NOT_HEURISTIC)
def test_the_heuristic_holds_for_other_statuses_when_public(status: int) -> None:
    """RFC 9111 §4.2.2, §5.2.2.9."""
    assert life([date(), modified(1000)], status=status) == (0, freshness.UNKNOWN)
    public = [date(), modified(1000), control(b"public")]
    assert life(public, status=status) == (100, freshness.HEURISTIC)


@pytest.mark.parametrize(
    ("case", "lines", "rule", "seconds"),
    [
        ("nothing known", [date()], PLAIN, 0),
        ("broken", [date(), (b"Last-Modified", b"x")], PLAIN, 0),
        ("in the future", [date(), modified(-100)], PLAIN, 0),
        ("just now", [date(), modified(0)], PLAIN, 0),
        ("at most a day", [date(), modified(100 * DAY_S)], PLAIN, DAY_S),
        ("no Date", [modified(1000)], PLAIN, 100),
        ("a Date ahead of our clock", [date(90_000), modified(1000)], PLAIN, 100),
        ("a Date long ago", [date(-500), modified(1000)], PLAIN, 50),
        ("another fraction", [date(), modified(1000)], CacheRule(heuristic_fraction=0.5), 500),
        ("none", [date(), modified(1000)], CacheRule(heuristic_fraction=0), 0),
        ("another limit", [date(), modified(1000)], CacheRule(heuristic_max_s=7), 7),
        ("no cookie of ours", [modified(1000), control(b"foo")], PLAIN, 100),
    ],
)
def test_the_heuristic_is_a_limited_fraction_of_the_time_since_the_last_change(
    case: str, lines: Lines, rule: CacheRule, seconds: float
) -> None:
    """RFC 9111 §4.2.2."""
    assert life(lines, rule)[0] == seconds, case


ERRORS = {500: 2.0, 404: 3.0}

# What the rule says; times of the rule count from when the answer came.
BY_RULE: list[tuple[str, CacheRule, int, Lines, float, float, Reason]] = [
    ("default", CacheRule(default_ttl_s=30), 200, [], 0, 30, freshness.DEFAULT),
    ("default", CacheRule(default_ttl_s=30), 200, [modified(1000)], 0, 30, freshness.DEFAULT),
    ("default", CacheRule(default_ttl_s=30), 200, [], 100, 130, freshness.DEFAULT),
    ("default", CacheRule(default_ttl_s=30), 500, [], 0, 0, freshness.UNKNOWN),
    ("default", CacheRule(default_ttl_s=30), 200, [control(b"max-age=5")], 0, 5, freshness.MAX_AGE),
    ("default", CacheRule(default_ttl_s=30), 200, [ZERO], 0, 0, freshness.EXPIRES_INVALID),
    ("force", CacheRule(force_ttl_s=30), 200, [control(b"max-age=5")], 0, 30, freshness.FORCED),
    ("force", CacheRule(force_ttl_s=30), 200, [control(b"s-maxage=99")], 0, 30, freshness.FORCED),
    ("force", CacheRule(force_ttl_s=30), 200, [ZERO], 100, 130, freshness.FORCED),
    ("force", CacheRule(force_ttl_s=0), 200, [control(b"max-age=5")], 0, 0, freshness.FORCED),
    ("force", CacheRule(force_ttl_s=30), 404, [control(b"max-age=5")], 0, 5, freshness.MAX_AGE),
    ("force", CacheRule(force_ttl_s=30), 500, [], 0, 0, freshness.UNKNOWN),
    (
        "force and status",
        CacheRule(force_ttl_s=30, status_ttl_s=ERRORS),
        404,
        [control(b"max-age=99")],
        10,
        13,
        freshness.STATUS,
    ),
    ("status", CacheRule(status_ttl_s=ERRORS), 500, [], 0, 2, freshness.STATUS),
    ("status", CacheRule(status_ttl_s=ERRORS), 404, [modified(1000)], 9, 12, freshness.STATUS),
    ("status", CacheRule(status_ttl_s=ERRORS), 503, [], 0, 0, freshness.UNKNOWN),
    (
        "status",
        CacheRule(status_ttl_s=ERRORS),
        500,
        [control(b"max-age=9")],
        0,
        9,
        freshness.MAX_AGE,
    ),
    (
        "status and default",
        CacheRule(status_ttl_s=ERRORS, default_ttl_s=30),
        404,
        [],
        0,
        3,
        freshness.STATUS,
    ),
    ("min", CacheRule(min_ttl_s=30), 200, [control(b"max-age=5")], 0, 30, freshness.RAISED),
    ("min", CacheRule(min_ttl_s=30), 200, [control(b"max-age=5")], 100, 130, freshness.RAISED),
    ("min", CacheRule(min_ttl_s=30), 200, [control(b"max-age=50")], 0, 50, freshness.MAX_AGE),
    ("min", CacheRule(min_ttl_s=30), 200, [control(b"max-age=50")], 40, 70, freshness.RAISED),
    ("min", CacheRule(min_ttl_s=30), 200, [date(), expires(-9)], 0, 30, freshness.RAISED),
    ("min", CacheRule(min_ttl_s=30), 200, [modified(100)], 0, 30, freshness.RAISED),
    ("min", CacheRule(min_ttl_s=30), 200, [], 0, 0, freshness.UNKNOWN),
    ("min", CacheRule(min_ttl_s=30), 404, [control(b"max-age=5")], 0, 5, freshness.MAX_AGE),
    (
        "min and status",
        CacheRule(min_ttl_s=30, status_ttl_s={302: 2}),
        302,
        [],
        0,
        2,
        freshness.STATUS,
    ),
    ("no min", PLAIN, 200, [control(b"max-age=5")], 100, 5, freshness.MAX_AGE),
    ("max", CacheRule(max_ttl_s=30), 200, [control(b"max-age=99")], 0, 30, freshness.LOWERED),
    ("max", CacheRule(max_ttl_s=30), 200, [control(b"max-age=99")], 10, 40, freshness.LOWERED),
    ("max", CacheRule(max_ttl_s=30), 200, [control(b"max-age=99")], 80, 99, freshness.MAX_AGE),
    ("max", CacheRule(max_ttl_s=30), 404, [control(b"max-age=99")], 0, 30, freshness.LOWERED),
    ("max and force", CacheRule(max_ttl_s=9, force_ttl_s=30), 200, [], 0, 9, freshness.LOWERED),
    (
        "max over min",
        CacheRule(max_ttl_s=9, min_ttl_s=30),
        200,
        [control(b"max-age=5")],
        0,
        9,
        freshness.LOWERED,
    ),
    (
        "ignore expires",
        CacheRule(ignore=frozenset({b"expires"}), default_ttl_s=30),
        200,
        [ZERO],
        0,
        30,
        freshness.DEFAULT,
    ),
    (
        "ignore cache-control",
        CacheRule(ignore=frozenset({b"cache-control"})),
        200,
        [control(b"max-age=0"), date(), expires(9)],
        0,
        9,
        freshness.EXPIRES,
    ),
]


@pytest.mark.parametrize(("case", "rule", "status", "lines", "age_s", "seconds", "reason"), BY_RULE)
def test_the_lifetime_that_a_rule_gives(
    case: str,
    rule: CacheRule,
    status: int,
    lines: Lines,
    age_s: float,
    seconds: float,
    reason: Reason,
) -> None:
    assert life(lines, rule, status, age_s) == (seconds, reason), case


GRACE = CacheRule(stale_while_revalidate_s=10, stale_if_error_s=20)
BOTH = b"stale-while-revalidate=1, stale-if-error=2"


@pytest.mark.parametrize(
    ("section", "value", "rule", "windows", "forbidden"),
    [
        ("RFC 9111 §4.2.4", b"max-age=5", PLAIN, (0, 0), None),
        ("RFC 5861 §3", b"max-age=5, stale-while-revalidate=7", PLAIN, (7, 0), None),
        ("RFC 5861 §4", b"max-age=5, stale-if-error=7", PLAIN, (0, 7), None),
        ("RFC 5861", b"max-age=5, " + BOTH, PLAIN, (1, 2), None),
        ("a window that is no number", b"stale-if-error, max-age=5", GRACE, (10, 0), None),
        ("the rule", b"max-age=5", GRACE, (10, 20), None),
        ("the answer over the rule", b"max-age=5, " + BOTH, GRACE, (1, 2), None),
        ("§5.2.2.4", b"no-cache, " + BOTH, GRACE, (0, 0), freshness.STALE_NO_CACHE),
        ("§5.2.2.4 named", b'no-cache="set-cookie", ' + BOTH, GRACE, (1, 2), None),
        ("§5.2.2.2", b"must-revalidate, " + BOTH, GRACE, (0, 0), freshness.STALE_MUST_REVALIDATE),
        ("§5.2.2.8", b"proxy-revalidate, " + BOTH, GRACE, (0, 0), freshness.STALE_PROXY_REVALIDATE),
        ("§5.2.2.10", b"s-maxage=5, " + BOTH, GRACE, (0, 0), freshness.STALE_S_MAXAGE),
    ],
)
def test_for_how_long_a_stale_answer_may_be_used(
    section: str,
    value: bytes,
    rule: CacheRule,
    windows: tuple[float, float],
    forbidden: Reason | None,
) -> None:
    directives = parse_response(value)
    assert stale_windows(directives, rule) == windows, section
    assert stale_forbidden(directives) == forbidden, section


# Values as upstreams send them, and as they do not.
DELTAS = st.integers(min_value=-(2**40), max_value=2**40).map(
    lambda n: b"%d" % n
) | st.sampled_from([b"", b"x", b"1.5", b'"60"', b" 60", b"60;", b"1e9", b"9" * 5000])
NAMES = st.sampled_from([b"max-age", b"s-maxage", b"Max-Age", b"stale-if-error", b"no-cache"])
CONTROLS = st.lists(
    st.tuples(NAMES, DELTAS).map(b"=".join)
    | st.sampled_from([b"public", b"foo", b'a="', b"S-MaxAge"]),
    max_size=4,
).map(b", ".join)
DATES = st.integers(min_value=-(2**31), max_value=2**31).map(lambda n: format_date(NOW + n)) | (
    st.sampled_from([b"", b"0", b"-1", b"Tue, 14 Nov 2023 22:14:20 CET", b"x"])
    | st.binary(max_size=9)
)
FIELD_LINES = st.lists(
    st.one_of(
        st.tuples(st.just(b"Cache-Control"), CONTROLS),
        st.tuples(st.sampled_from([b"Date", b"Expires", b"Last-Modified", b"expires"]), DATES),
        st.tuples(st.just(b"Age"), DELTAS),
        st.tuples(st.just(b"CDN-Cache-Control"), CONTROLS),
    ),
    max_size=6,
)
STATUSES = st.sampled_from(HEURISTIC + NOT_HEURISTIC)
TTLS = st.none() | st.floats(min_value=0, max_value=1e9)
RULES = st.builds(
    CacheRule,
    default_ttl_s=TTLS,
    force_ttl_s=TTLS,
    min_ttl_s=st.floats(min_value=0, max_value=1e6),
    max_ttl_s=st.floats(min_value=0, max_value=1e9) | st.just(inf),
    status_ttl_s=st.dictionaries(STATUSES, st.floats(min_value=0, max_value=1e9), max_size=3),
    heuristic_fraction=st.floats(min_value=0, max_value=1),
)


def permitted_s(status: int, fields: Fields) -> float:
    """Return the longest life that RFC 9111 permits, found in another way than the code's."""
    value = (fields.get(b"cache-control") or b"").lower()
    for name in (rb"s-maxage", rb"max-age"):
        numbers = [int(n[:11]) for n in re.findall(rb"(?<![-\w])" + name + rb'="?(\d+)', value)]
        if re.search(rb"(?<![-\w])" + name, value):
            return min([*numbers, FOREVER_S]) if numbers else 0
    if b"expires" in fields:
        return FOREVER_S  # compared with Date in the table above
    if status in HEURISTIC or b"public" in value:
        return DAY_S
    return 0


@given(STATUSES, FIELD_LINES, st.floats(min_value=0, max_value=1e6))
def test_no_answer_is_fresh_for_longer_than_the_standard_allows(
    status: int, lines: Lines, age_s: float
) -> None:
    plain = CacheRule(targets=())
    seconds, _ = life(lines, plain, status, age_s)
    assert seconds <= permitted_s(status, Fields(lines))


@given(STATUSES, FIELD_LINES, RULES, st.floats(min_value=0, max_value=1e6))
def test_no_answer_is_fresh_for_longer_than_the_rule_allows(
    status: int, lines: Lines, rule: CacheRule, age_s: float
) -> None:
    seconds, reason = life(lines, rule, status, age_s)
    assert seconds <= age_s + rule.max_ttl_s
    if reason in {freshness.S_MAXAGE, freshness.MAX_AGE, freshness.EXPIRES, freshness.UNKNOWN}:
        assert seconds <= life(lines, CacheRule(), status)[0]


@given(
    st.binary(max_size=60), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=9)
)
def test_no_value_raises(cache_control: bytes, when: bytes, changed: bytes, age: bytes) -> None:
    lines = [
        control(cache_control),
        (b"CDN-Cache-Control", cache_control),
        (b"Date", changed),
        (b"Expires", when),
        (b"Last-Modified", changed),
        (b"Age", age),
    ]
    fields = Fields(lines)
    assert life(lines)[0] <= FOREVER_S
    assert initial_age_s(age_value(fields), date_value(fields, NOW), NOW, NOW) >= 0
    assert min(stale_windows(governing_directives(fields, PLAIN), PLAIN)) >= 0


@given(
    st.integers(0, FOREVER_S) | st.none(),
    st.integers(0, 2**33) | st.none(),
    st.floats(0, 2**33),
    st.floats(0, 2**33),
)
def test_an_answer_is_never_younger_than_it_says(
    age: int | None, generated: int | None, request_at: float, response_at: float
) -> None:
    """RFC 9111 §4.2.3, whatever the clocks do."""
    seconds = initial_age_s(age, generated, request_at, response_at)
    assert seconds >= (age or 0)
    assert seconds >= response_at - request_at
    if generated is not None:
        assert seconds >= response_at - generated


def test_reasons_say_where_they_come_from() -> None:
    reasons = [value for value in vars(freshness).values() if isinstance(value, Reason)]
    assert len(reasons) > 10
    assert all(reason.source.startswith(("RFC ", "[route.cache] ")) for reason in reasons)


def test_a_lifetime_needs_no_age() -> None:
    fields = Fields([control(b"max-age=5")])
    said = ResponseDirectives(max_age=5)
    assert lifetime(200, fields, said, PLAIN, NOW) == (5, freshness.MAX_AGE)
