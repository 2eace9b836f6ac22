"""The servers of one group, and which of them gets the next request."""

import random
from collections.abc import Sequence
from math import inf
from typing import Final

from proxy.rules.balancing import (
    Balancer,
    ConsistentHash,
    LeastConnections,
    RandomTwo,
    RoundRobin,
    slow_start_factor,
    without_backups,
)
from proxy.upstream.options import GroupOptions
from proxy.upstream.pool import Pool
from proxy.upstream.wish import NOBODY, Wish

# When nobody lets us connect, one request in this time finds out whether that still holds, and the
# others fail at once instead of all waiting for the same refusal.
FAIL_FAST_S: Final = 1.0
# How often the share of a server that starts slowly is worked out again.
WARMING_S: Final = 0.25


class Roster:
    """The servers with their weights at the moment.

    Those are worked out when something has changed: a server's health, or the time in which
    nothing could (`_until`).
    """

    __slots__ = ("_backups", "_balancer", "_kept", "_options", "_until", "_weights", "pools")

    def __init__(self, pools: Sequence[Pool], options: GroupOptions) -> None:
        self.pools = pools
        self._backups = [pool.server.backup for pool in pools]
        self._balancer = make_balancer(pools, options)
        self._options = options
        self._kept: Pool | None = None
        self._until = -inf
        self._weights: list[float] = []

    def choose(self, wish: Wish | None, now: float) -> Pool | None:
        """Return the server for a request, which has an idle connection or room for a new one.

        None when there is none now, or when none is left that has not failed this request. The
        caller says `asked` when the request goes there, or `keep` when it does not yet.
        """
        weights = self._left(wish, now)
        if wish is not None and wish.server != NOBODY and weights[wish.server]:
            chosen = self.pools[wish.server]
            if chosen.has_room():
                return chosen
        kept, self._kept = self._kept, None
        if kept is not None and kept.has_room() and (wish is None or not wish.failed):
            return kept
        key = b"" if wish is None else wish.key
        while any(weights):
            index = self._balancer.choose(weights, self._load, key)
            if self.pools[index].has_room():
                return self.pools[index]
            weights = [0.0 if at == index else weight for at, weight in enumerate(weights)]
        return None

    def keep(self, pool: Pool) -> None:
        """Let the server whose turn it was have the next one: nobody has asked it."""
        if self._options.balance.kind != "hash":
            self._kept = pool

    def asked(self, pool: Pool, now: float) -> None:
        """Learn that a request goes to a server."""
        health = pool.health
        health.asked()
        if health.ejections:
            health.try_out(now)
            self.changed()

    def nobody_left(self, wish: Wish | None, now: float) -> bool:
        """Whether there is no server for the request, full or not."""
        return not any(self._left(wish, now))

    def usable(self, index: int, now: float) -> bool:
        """Whether the server at `index` gets requests now."""
        return self._left(None, now)[index] > 0

    def changed(self) -> None:
        """Work the weights out again, the next time."""
        self._until = -inf
        self._kept = None

    def _left(self, wish: Wish | None, now: float) -> list[float]:
        if now >= self._until:
            self._weights, self._until = self._weigh(now)
            self._kept = None
        if wish is None or not wish.failed:
            return self._weights
        failed = wish.failed
        return [0.0 if at in failed else weight for at, weight in enumerate(self._weights)]

    def _load(self, index: int) -> int:
        return self.pools[index].busy

    def _weigh(self, now: float) -> tuple[list[float], float]:
        """Return the weights, and until when they hold if nothing happens."""
        until = inf
        weights: list[float] = []
        for pool in self.pools:
            health = pool.health
            factor = 1.0
            if not health.usable(now):
                factor = 0.0
                if now < health.ejected_until:
                    until = min(until, health.ejected_until)
            elif self._options.slow_start_s:
                factor = slow_start_factor(now - health.up_at, self._options.slow_start_s)
                if factor < 1:
                    until = min(until, now + WARMING_S)
            weights.append(pool.server.weight * factor)
        weights = without_backups(weights, self._backups)
        return (weights, until) if any(weights) else self._last_resort(now, until)

    def _last_resort(self, now: float, until: float) -> tuple[list[float], float]:
        """Return the weights when no server is as it should be.

        Who lets us connect may still answer, and an error is the worst that can come. Who does not
        is tried once in a while; of applications that proxyd starts the group finds that out.
        """
        weights = [
            0.0 if pool.health.refusing else float(pool.server.weight) for pool in self.pools
        ]
        if any(weights) or self._options.managed:
            return weights, until
        for index, pool in enumerate(self.pools):
            again_at = pool.health.failed_at + FAIL_FAST_S
            if now >= again_at:
                weights[index] = float(pool.server.weight)
            else:
                until = min(until, again_at)
        return weights, until


def make_balancer(pools: Sequence[Pool], options: GroupOptions) -> Balancer:
    """Return the way to choose that the options name."""
    match options.balance.kind:
        case "round_robin":
            return RoundRobin(len(pools))
        case "least_conn":
            return LeastConnections(len(pools))
        case "random_two":
            return RandomTwo(random.random)
        case "hash":
            servers = [pool.server for pool in pools]
            names = [str(server.address) for server in servers]
            return ConsistentHash(names, [server.weight for server in servers])
