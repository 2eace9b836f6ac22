"""The servers behind one name of the configuration: which one is next, and a connection to it."""

import asyncio
import logging
from collections.abc import Sequence

from proxy.errors import UpstreamError, UpstreamTimeoutError
from proxy.upstream.address import Address
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.options import GroupOptions
from proxy.upstream.places import Places
from proxy.upstream.pool import Pool
from proxy.upstream.resolve import Resolver

log = logging.getLogger("proxyd.upstream")

# For how long a server that could not be reached is passed over, when there is another. nginx's
# fail_timeout is 10 s; an application that is restarted is back sooner.
BACK_OFF_S = 1.0


class Group:
    """Servers that are equal, taken in turn.

    Usage: `group.acquire_now() or await group.acquire()`, then `begin` on the connection in the
    same step, which goes back by itself. The worker's timer calls `sweep` every 0.25 to 0.5 s; all
    timeouts but the one for connecting hang on it.
    """

    __slots__ = ("_next", "_places", "_pools", "name")

    def __init__(
        self,
        name: str,
        servers: Sequence[Address],
        options: GroupOptions,
        resolver: Resolver | None = None,
    ) -> None:
        self.name = name
        resolver = resolver or Resolver()
        self._places = Places(name, options)
        self._pools = [Pool(name, server, options, self._places, resolver) for server in servers]
        self._next = 0

    @property
    def connections(self) -> int:
        """How many connections there are, those about to be opened included."""
        return self._places.taken

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return sum(pool.idle for pool in self._pools)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return self._places.waiting

    def acquire_now(self) -> UpstreamConnection | None:
        """Return an idle connection, if there is one."""
        if len(self._pools) == 1:
            return self._pools[0].take()
        pools = self._in_turn()
        connection = pools[0].take()
        if connection is not None:
            self._advance(pools[0])
        elif self._places.full():
            # No new connection to the one whose turn it is, so any will do.
            for pool in pools:
                connection = pool.take()
                if connection is not None:
                    return connection
        return connection

    async def acquire(self) -> UpstreamConnection:
        """Return an idle connection, a new one, or one that somebody else had to finish with.

        Raises UpstreamError, UpstreamTimeoutError, OverloadedError.
        """
        connection = self.acquire_now()
        while connection is None or connection.closed:
            if self._places.full():
                connection = await self._places.wait()
            else:
                self._places.take()
                connection = None
            if connection is None:
                return await self._open()
        return connection

    def sweep(self, now: float) -> None:
        """Enforce all timeouts; `now` is the loop's time."""
        self._places.sweep(now)
        for pool in self._pools:
            pool.sweep(now)

    def close(self) -> None:
        """Keep nothing idle from here on; requests under way come to their end.

        Keep calling `sweep` until `connections` is 0.
        """
        for pool in self._pools:
            pool.close()

    def _in_turn(self) -> list[Pool]:
        """Return all servers, the one whose turn it is first, those that just failed last."""
        if len(self._pools) == 1:
            return self._pools
        now = asyncio.get_running_loop().time()
        turned = self._pools[self._next :] + self._pools[: self._next]
        return sorted(turned, key=lambda pool: pool.failed_until > now)

    def _advance(self, used: Pool) -> None:
        self._next = (self._pools.index(used) + 1) % len(self._pools)

    async def _open(self) -> UpstreamConnection:
        """Open a connection on the place that is taken: to one server after the other."""
        opened = None
        failure: UpstreamError | UpstreamTimeoutError | None = None
        try:
            for pool in self._in_turn():
                self._advance(pool)
                try:
                    opened = await pool.open()
                except (UpstreamError, UpstreamTimeoutError) as error:
                    pool.failed_until = asyncio.get_running_loop().time() + BACK_OFF_S
                    if failure is not None:
                        log.warning("%s", failure)
                    failure = error
                else:
                    return opened
        finally:
            if opened is None:
                self._places.leave()
        raise failure or UpstreamError(f"upstream {self.name} has no servers")
