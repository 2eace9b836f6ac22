"""Which failures are repaired unseen. RFC 9110 §9.2.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.retrying import may_retry


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
