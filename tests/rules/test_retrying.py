"""Which failures are repaired unseen. RFC 9110 §9.2.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.retrying import LEAST_RETRIES, WINDOW_S, RetryBudget, may_retry


@pytest.mark.parametrize(
    ("method", "reused", "answer_began", "body_repeatable", "expected"),
    [
        # RFC 9110 §9.2.2: a safe or idempotent method on a connection that had waited idle
        (b"GET", True, False, True, True),
        (b"HEAD", True, False, True, True),
        (b"OPTIONS", True, False, True, True),
        (b"TRACE", True, False, True, True),
        (b"PUT", True, False, True, True),
        (b"DELETE", True, False, True, True),
        # not idempotent: that nothing was answered does not show that nothing was done
        (b"POST", True, False, True, False),
        (b"PATCH", True, False, True, False),
        # unknown to us, so nobody promised
        (b"PURGE", True, False, True, False),
        # methods are case-sensitive, RFC 9110 §9.1
        (b"get", True, False, True, False),
        # a new connection that fails is news about the upstream
        (b"GET", False, False, True, False),
        # the client may have seen part of the answer
        (b"GET", True, True, True, False),
        # the content is gone
        (b"PUT", True, False, False, False),
    ],
)
def test_only_a_lost_idle_connection_is_worth_a_second_try(
    method: bytes, reused: bool, answer_began: bool, body_repeatable: bool, expected: bool
) -> None:
    assert may_retry(method, reused, answer_began, body_repeatable) is expected


@given(st.binary(max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_whatever_makes_a_retry_doubtful_forbids_it(
    method: bytes, reused: bool, answer_began: bool, body_repeatable: bool
) -> None:
    allowed = may_retry(method, reused, answer_began, body_repeatable)
    assert not allowed or (reused and body_repeatable and not answer_began)


@pytest.mark.parametrize(
    ("method", "answer_began", "body_repeatable", "expected"),
    [
        (b"GET", False, True, True),
        (b"PUT", False, True, True),
        (b"POST", False, True, False),
        (b"GET", True, True, False),
        (b"PUT", False, False, False),
    ],
)
def test_what_may_be_repeated_goes_to_another_server_when_one_broke_off(
    method: bytes, answer_began: bool, body_repeatable: bool, expected: bool
) -> None:
    assert may_retry(method, False, answer_began, body_repeatable, elsewhere=True) is expected


def spent(budget: RetryBudget, requests: int) -> int:
    """Take all that there is."""
    count = 0
    while budget.spend(requests):
        count += 1
    return count


def test_a_few_retries_are_always_allowed() -> None:
    assert spent(RetryBudget(20), 0) == LEAST_RETRIES


def test_retries_are_a_part_of_the_requests() -> None:
    assert spent(RetryBudget(20), 10_000) == 2000


def test_a_budget_of_nothing_allows_nothing() -> None:
    assert spent(RetryBudget(0), 10_000) == 0


def test_the_budget_comes_back_with_new_requests_and_with_time() -> None:
    budget = RetryBudget(10)
    budget.note(1000, 0)
    assert spent(budget, 5000) == 500
    assert spent(budget, 6000) == 100
    for second in range(1, 9):
        budget.note(1000 + second, 6000)
    assert spent(budget, 6000) == 0
    budget.note(1000.5 + 11, 6000)
    assert spent(budget, 6000) == LEAST_RETRIES


def test_what_is_remembered_is_bounded() -> None:
    budget = RetryBudget(10)
    for tick in range(4000):
        budget.note(1000 + tick / 4, tick)
    assert len(budget._seconds) <= WINDOW_S + 2
