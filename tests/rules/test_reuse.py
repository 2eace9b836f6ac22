"""May a stored answer be used as it is? RFC 9111 §4, §4.2.4, §5.2.1, RFC 5861."""

from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.cache_control import NOTHING_ASKED, RequestDirectives, parse_request
from proxy.rules.reasons import Reason
from proxy.rules.reuse import (
    ASKED_TO_VALIDATE,
    ERROR_STATUSES,
    ERROR_TOO_STALE,
    FRESH,
    MAX_STALE,
    MUST_REVALIDATE,
    NO_CACHE,
    REVALIDATING,
    STALE,
    STALE_IF_ERROR,
    TOO_LATE,
    TOO_OLD,
    TOO_STALE,
    Verdict,
    judge,
    may_serve_on_error,
)

HIT, STALE_HIT = Verdict.HIT, Verdict.STALE_HIT
REFRESH, VALIDATE = Verdict.SERVE_AND_REFRESH, Verdict.VALIDATE


@dataclass
class Entry:
    """Born at 0 with a lifetime of 100 seconds; the windows are seconds past it."""

    born_at: float = 0.0
    fresh_until: float = 100.0
    swr_until: float = 100.0
    sie_until: float = 100.0
    no_cache: bool = False
    must_revalidate: bool = False


PLAIN = Entry()
GRACE = Entry(swr_until=130.0, sie_until=200.0)
NEVER_STALE = Entry(must_revalidate=True)
ALWAYS_VALIDATED = Entry(no_cache=True, swr_until=130.0, sie_until=200.0)


@pytest.mark.parametrize(
    ("entry", "now", "verdict", "reason"),
    [
        # §4.2: fresh while its lifetime is greater than its age
        (PLAIN, 0.0, HIT, FRESH),
        (PLAIN, 99.999, HIT, FRESH),
        (PLAIN, 100.0, VALIDATE, STALE),
        (PLAIN, 1e9, VALIDATE, STALE),
        (GRACE, 99.0, HIT, FRESH),
        # §4.2.4: a directive that forbids it
        (NEVER_STALE, 99.0, HIT, FRESH),
        (NEVER_STALE, 100.0, VALIDATE, MUST_REVALIDATE),
        # RFC 5861 §3: up to the indicated number of seconds, with a validation behind it
        (GRACE, 100.0, REFRESH, REVALIDATING),
        (GRACE, 129.999, REFRESH, REVALIDATING),
        (GRACE, 130.0, VALIDATE, STALE),
        # §4, §5.2.2.4: no-cache, also for what is fresh or has a grace; §4.4: what is invalid
        (ALWAYS_VALIDATED, 0.0, VALIDATE, NO_CACHE),
        (ALWAYS_VALIDATED, 110.0, VALIDATE, NO_CACHE),
        (ALWAYS_VALIDATED, 300.0, VALIDATE, NO_CACHE),
    ],
)
def test_a_request_without_directives(
    entry: Entry, now: float, verdict: Verdict, reason: Reason
) -> None:
    assert judge(entry, NOTHING_ASKED, now) == (verdict, reason)
    assert judge(entry, parse_request(b"an-extension=1"), now) == (verdict, reason)


@pytest.mark.parametrize(
    ("value", "entry", "now", "verdict", "reason"),
    [
        # §5.2.1.1 max-age: the age is less than or equal to it
        (b"max-age=50", PLAIN, 50.0, HIT, FRESH),
        (b"max-age=50", PLAIN, 50.5, VALIDATE, TOO_OLD),
        (b"max-age=0", PLAIN, 0.001, VALIDATE, TOO_OLD),
        (b"max-age=0", PLAIN, 0.0, HIT, FRESH),
        # without max-stale the client wishes nothing stale, whatever the answer permits
        (b"max-age=500", GRACE, 110.0, VALIDATE, STALE),
        (b"max-age=500, max-stale", PLAIN, 110.0, STALE_HIT, MAX_STALE),
        (b"max-age=105, max-stale", PLAIN, 110.0, VALIDATE, TOO_OLD),
        # §5.2.1.2 max-stale: by no more than that, or of any age
        (b"max-stale=10", PLAIN, 50.0, HIT, FRESH),
        (b"max-stale=10", PLAIN, 110.0, STALE_HIT, MAX_STALE),
        (b"max-stale=10", PLAIN, 110.5, VALIDATE, TOO_STALE),
        (b"max-stale=0", PLAIN, 100.5, VALIDATE, TOO_STALE),
        (b"max-stale", PLAIN, 1e9, STALE_HIT, MAX_STALE),
        # it limits what the answer permits, and does not stop the refreshing
        (b"max-stale=10", GRACE, 111.0, VALIDATE, TOO_STALE),
        (b"max-stale=10", GRACE, 109.0, REFRESH, REVALIDATING),
        (b"max-stale=60", GRACE, 140.0, STALE_HIT, MAX_STALE),
        # §4.2.4, §5.2.2.2, §5.2.2.4: the answer's directives are stronger
        (b"max-stale", NEVER_STALE, 101.0, VALIDATE, MUST_REVALIDATE),
        (b"max-stale", ALWAYS_VALIDATED, 101.0, VALIDATE, NO_CACHE),
        (b"max-stale", ALWAYS_VALIDATED, 1.0, VALIDATE, NO_CACHE),
        # §5.2.1.3 min-fresh: still fresh for at least that long
        (b"min-fresh=20", PLAIN, 80.0, HIT, FRESH),
        (b"min-fresh=20", PLAIN, 80.5, VALIDATE, TOO_LATE),
        (b"min-fresh=0", PLAIN, 99.0, HIT, FRESH),
        (b"min-fresh=0", GRACE, 101.0, VALIDATE, TOO_LATE),
        (b"min-fresh=20, max-stale", PLAIN, 101.0, VALIDATE, TOO_LATE),
        (b"min-fresh=20, max-age=90", PLAIN, 79.0, HIT, FRESH),
        # §5.2.1.4 no-cache, §5.4 Pragma
        (b"no-cache", PLAIN, 0.0, VALIDATE, ASKED_TO_VALIDATE),
        (b"no-cache, max-stale", GRACE, 101.0, VALIDATE, ASKED_TO_VALIDATE),
        # §5.2.1.5: no-store does not apply to what is stored already
        (b"no-store", PLAIN, 50.0, HIT, FRESH),
        (b"no-store", GRACE, 110.0, REFRESH, REVALIDATING),
        # §5.2.1.6, §5.2.1.7: no-transform and only-if-cached say nothing about freshness
        (b"no-transform", PLAIN, 50.0, HIT, FRESH),
        (b"only-if-cached", PLAIN, 50.0, HIT, FRESH),
        (b"only-if-cached", PLAIN, 100.0, VALIDATE, STALE),
        (b"only-if-cached, max-stale=5", PLAIN, 101.0, STALE_HIT, MAX_STALE),
        # RFC 5861 §4: nothing has failed yet
        (b"stale-if-error=900", PLAIN, 101.0, VALIDATE, STALE),
    ],
)
def test_what_request_directives_change(
    value: bytes, entry: Entry, now: float, verdict: Verdict, reason: Reason
) -> None:
    assert judge(entry, parse_request(value), now) == (verdict, reason)


def test_pragma_no_cache_asks_for_validation() -> None:
    assert judge(PLAIN, parse_request(None, b"no-cache"), 1.0) == (VALIDATE, ASKED_TO_VALIDATE)


def test_the_decision_about_a_fresh_entry_allocates_nothing() -> None:
    assert judge(PLAIN, NOTHING_ASKED, 1.0) is judge(GRACE, NOTHING_ASKED, 2.0)


@pytest.mark.parametrize(
    ("value", "entry", "now", "allowed", "reason"),
    [
        # RFC 5861 §4: the answer's own window
        (None, GRACE, 150.0, True, STALE_IF_ERROR),
        (None, GRACE, 199.999, True, STALE_IF_ERROR),
        (None, GRACE, 200.0, False, ERROR_TOO_STALE),
        (None, PLAIN, 100.0, False, ERROR_TOO_STALE),
        # "regardless of other freshness information"
        (b"max-age=0", GRACE, 150.0, True, STALE_IF_ERROR),
        (b"min-fresh=500", GRACE, 150.0, True, STALE_IF_ERROR),
        # used as a request directive, its scope is the request, and it is an upper limit
        (b"stale-if-error=60", PLAIN, 160.0, True, STALE_IF_ERROR),
        (b"stale-if-error=60", PLAIN, 160.5, False, ERROR_TOO_STALE),
        (b"stale-if-error=60", GRACE, 170.0, False, ERROR_TOO_STALE),
        (b"max-stale=5", GRACE, 150.0, True, STALE_IF_ERROR),
        # what the client held against it was not that it is stale
        (b"max-age=0", PLAIN, 50.0, True, FRESH),
        (None, NEVER_STALE, 50.0, True, FRESH),
        # §4.2.4, §5.2.2.2: in all circumstances
        (None, NEVER_STALE, 100.0, False, MUST_REVALIDATE),
        (b"stale-if-error=60", NEVER_STALE, 101.0, False, MUST_REVALIDATE),
        # §5.2.2.4, §5.2.1.4
        (None, ALWAYS_VALIDATED, 150.0, False, NO_CACHE),
        (None, ALWAYS_VALIDATED, 50.0, False, NO_CACHE),
        (b"no-cache", GRACE, 150.0, False, ASKED_TO_VALIDATE),
        (b"no-cache", GRACE, 50.0, False, ASKED_TO_VALIDATE),
    ],
)
def test_standing_in_for_an_error(
    value: bytes | None, entry: Entry, now: float, allowed: bool, reason: Reason
) -> None:
    assert may_serve_on_error(entry, parse_request(value), now) == (allowed, reason)


def test_only_failures_of_the_server_are_errors_to_stand_in_for() -> None:
    assert {500, 502, 503, 504} == ERROR_STATUSES


SECONDS = st.one_of(st.none(), st.integers(0, 400))
ENTRIES = st.builds(
    lambda lifetime, swr, sie, no_cache, must: Entry(
        fresh_until=lifetime,
        swr_until=lifetime if must else lifetime + swr,
        sie_until=lifetime if must else lifetime + sie,
        no_cache=no_cache,
        must_revalidate=must,
    ),
    st.floats(0, 200),
    st.floats(0, 100),
    st.floats(0, 100),
    st.booleans(),
    st.booleans(),
)


def written(**directives: float | None) -> RequestDirectives:
    named = (
        b"%b=%d" % (name.replace("_", "-").encode(), value) if value != inf else name.encode()
        for name, value in directives.items()
        if value is not None
    )
    return parse_request(b", ".join(named))


@given(ENTRIES, st.floats(0, 500), SECONDS, SECONDS, SECONDS)
def test_nothing_is_served_past_what_somebody_permits(
    entry: Entry, now: float, max_age: int | None, max_stale: int | None, min_fresh: int | None
) -> None:
    asked = written(max_age=max_age, max_stale=max_stale, min_fresh=min_fresh)
    verdict, _ = judge(entry, asked, now)
    if verdict is VALIDATE:
        return
    assert not entry.no_cache
    assert max_age is None or now - entry.born_at <= max_age
    assert min_fresh is None or entry.fresh_until - now >= min_fresh
    if verdict is HIT:
        assert now < entry.fresh_until
        return
    assert entry.fresh_until <= now
    assert not entry.must_revalidate
    permitted = entry.swr_until if max_stale is None else entry.fresh_until + max_stale
    assert now <= permitted + 1e-6


@given(ENTRIES, st.floats(0, 500), SECONDS)
def test_an_error_never_brings_out_what_must_be_validated(
    entry: Entry, now: float, stale_if_error: int | None
) -> None:
    allowed, _ = may_serve_on_error(entry, written(stale_if_error=stale_if_error), now)
    if entry.no_cache or (entry.must_revalidate and now >= entry.fresh_until):
        assert not allowed
