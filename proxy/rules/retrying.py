"""Decides whether a request that failed is sent to an upstream again. RFC 9110 §9.2.2.

Pure: `now` is in seconds. Two failures are repaired here: a keep-alive connection that the upstream
closed just as it was taken for a request (the client cannot know of that connection, so it should
not pay for it), and a server that broke off without an answer while there is another one.
"""

from collections import deque
from typing import final

# RFC 9110 §9.2.1 and §9.2.2: what may be done twice with the effect of once. Other registered
# methods are idempotent too (PROPFIND, QUERY …); an application that does not know them may not
# keep that promise, so they are left to the client, as nginx does it.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

# Finagle's RetryBudget: a window of 10 s, and 10 retries a second whatever the traffic, without
# which a quiet site would never repair anything.
WINDOW_S = 10
LEAST_RETRIES = 10 * WINDOW_S


def may_retry(
    method: bytes,
    reused: bool,
    answer_began: bool,
    body_repeatable: bool,
    *,
    elsewhere: bool = False,
) -> bool:
    """Say whether the request may be sent again on another connection.

    `reused`: the connection had waited idle, so that its end may have crossed with the request; a
    new connection that fails tells something about the server, and is reported unless there is
    another one that has not failed this request (`elsewhere`). `answer_began`: a byte of the answer
    (an interim one as well) has arrived. `body_repeatable`: the content is still there from its
    first byte, or there is none.

    A method that is not idempotent is never repeated: that the connection closed without an answer
    does not show that nothing was done.
    """
    repairable = reused or elsewhere
    return repairable and body_repeatable and not answer_began and method in IDEMPOTENT


@final
class RetryBudget:
    """At most `percent` of the requests of the last ten seconds may be retries, or a few.

    Without it, retries multiply the load of an upstream that fails because of its load. Requests
    are counted by the caller, because that must cost nothing; `note` is to be called every second.
    """

    __slots__ = ("_percent", "_retries", "_seconds")

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._retries = 0
        # (when, requests until then, retries until then), oldest first; WINDOW_S of them.
        self._seconds: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])

    def note(self, now: float, requests: int) -> None:
        """Take how many requests there have been by `now`, in all."""
        seconds = self._seconds
        if now - seconds[-1][0] >= 1:
            seconds.append((now, requests, self._retries))
            while len(seconds) > 1 and seconds[1][0] <= now - WINDOW_S:
                seconds.popleft()

    def spend(self, requests: int) -> bool:
        """Take a retry when there is one left; `requests` is how many there have been, in all."""
        _, requests_before, retries_before = self._seconds[0]
        allowed = max(LEAST_RETRIES, (requests - requests_before) * self._percent // 100)
        if not self._percent or self._retries - retries_before >= allowed:
            return False
        self._retries += 1
        return True
