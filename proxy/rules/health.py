"""Judges from its failures whether a server should get requests. Pure: `now` is in seconds.

    USABLE ── failures in a row, too high a rate of them, or no connection ──▶ EJECTED
      ▲                                                                          │ its time is over
      └──── an answer ──── HALF OPEN: one request tries it ◀─────────────────────┘
                              └── fails: EJECTED for twice as long

A request that tries a server renews its ejection as it begins (`try_out`), so that a second one
does not follow it, and nothing hangs when the first one is given up.
"""

from typing import final

import msgspec

# Over how long a rate is taken, and below how many requests it says nothing: of Envoy's outlier
# detection (interval 10 s; success_rate_request_volume is 100, for a whole proxy).
RATE_WINDOW_S = 10.0
RATE_REQUESTS = 10


@final
class EjectionRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a server is ejected: after so many failures in a row, or at this part of all requests.

    The first time for `first_s`, then for twice as long each time, at most for `longest_s`.
    """

    failures: int = 5
    rate: float = 0.5
    first_s: float = 1.0
    longest_s: float = 30.0


@final
class Health:
    """What is known of one server.

    `suspect` says that its next answer is news. `refusing` says that it let nobody connect; then
    there is no point in asking it even when there is no other.
    """

    __slots__ = (
        "_began_at",
        "_failed",
        "_in_a_row",
        "_requests",
        "_rules",
        "ejected_until",
        "ejections",
        "failed_at",
        "probed_down",
        "refusing",
        "suspect",
        "up_at",
    )

    def __init__(self, rules: EjectionRules) -> None:
        self._rules = rules
        self._in_a_row = 0
        self._began_at = 0.0
        self._requests = 0
        self._failed = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.failed_at = 0.0
        self.refusing = False
        self.suspect = False
        self.probed_down = False
        self.up_at = float("-inf")

    def usable(self, now: float) -> bool:
        """Whether requests may go there: it is neither ejected nor down by its probe."""
        return now >= self.ejected_until and not self.probed_down

    def asked(self) -> None:
        """Count a request, for the rate of failures."""
        self._requests += 1

    def refused(self, now: float) -> None:
        """Learn that nobody could connect: that alone is enough."""
        self.refusing = True
        self._eject(now)

    def failed(self, now: float) -> None:
        """Learn that an answer did not come, or was none."""
        if now - self._began_at > RATE_WINDOW_S:
            self._began_at, self._requests, self._failed = now, 1, 0
        self._in_a_row += 1
        self._failed += 1
        self.failed_at = now
        self.suspect = True
        requests = max(self._requests, self._failed)
        too_often = requests >= RATE_REQUESTS and self._failed >= self._rules.rate * requests
        if self.ejections or too_often or self._in_a_row >= self._rules.failures:
            self._eject(now)

    def succeeded(self, now: float) -> None:
        """Learn that it answered: whatever was held against it is over."""
        if self.ejections:
            self.up_at = now
        self._in_a_row = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.refusing = False
        self.suspect = False

    def try_out(self, now: float) -> None:
        """Let one request try it, and no other until that is decided, or as long again."""
        if self.ejections:
            self.failed_at = now
            self.ejected_until = now + self._back_off_s()

    def probed(self, up: bool, now: float) -> None:
        """Learn what its probe says."""
        if up and self.probed_down:
            self.up_at = now
        self.probed_down = not up

    def _eject(self, now: float) -> None:
        self.ejections += 1
        self.failed_at = now
        self.suspect = True
        self.ejected_until = now + self._back_off_s()
        self._in_a_row = self._requests = self._failed = 0

    def _back_off_s(self) -> float:
        doubled = self._rules.first_s * 2.0 ** min(self.ejections - 1, 30)
        return min(doubled, self._rules.longest_s)


@final
class Thresholds:
    """Whether a server is up by its probes: it takes `fall` failures in a row to be down.

    And `rise` successes to be up again. Begins as up, which the first probe may deny at once:
    nothing is known of it before.
    """

    __slots__ = ("_fall", "_other", "_probed", "_rise", "up")

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self._other = 0
        self._probed = False
        self.up = True

    def note(self, good: bool) -> bool:
        """Take the outcome of one probe; return whether `up` has changed."""
        first, self._probed = not self._probed, True
        if good == self.up:
            self._other = 0
            return False
        self._other += 1
        if not first and self._other < (self._rise if good else self._fall):
            return False
        self.up = good
        self._other = 0
        return True
