"""The connections to one server: idle ones ready to be taken, busy ones under watch."""

import asyncio
from collections import deque

from proxy.errors import UpstreamError
from proxy.upstream.address import Address
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.dial import dial
from proxy.upstream.options import GroupOptions
from proxy.upstream.places import Places
from proxy.upstream.resolve import Resolver


class Pool:
    """All connections to one server address.

    Idle ones are a stack: the one used last is the least likely to have been closed, and those at
    the bottom age until the sweep lets them go. `failed_until` belongs to the group.
    """

    __slots__ = (
        "_closed",
        "_connections",
        "_idle",
        "_options",
        "_places",
        "_resolver",
        "address",
        "failed_until",
        "name",
    )

    def __init__(
        self,
        group: str,
        address: Address,
        options: GroupOptions,
        places: Places,
        resolver: Resolver,
    ) -> None:
        self.address = address
        self.name = f"upstream {group} ({address})"
        self.failed_until = 0.0
        self._options = options
        self._places = places
        self._resolver = resolver
        self._connections: set[UpstreamConnection] = set()
        self._idle: deque[UpstreamConnection] = deque()
        self._closed = False

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """Take the idle connection that was used last."""
        return self._idle.pop() if self._idle else None

    async def open(self) -> UpstreamConnection:
        """Open a connection on a place that the caller has taken; the connection gives it back.

        Raises UpstreamError or UpstreamTimeoutError, and then the place is still the caller's.
        """
        loop = asyncio.get_running_loop()
        connection = await dial(
            self.name,
            self.address,
            self._resolver,
            lambda: UpstreamConnection(self.name, self, self._options, loop),
            self._options.connect_timeout_s,
        )
        if connection.closed:
            raise UpstreamError(f"{self.name} closed a connection as soon as it was open")
        self._connections.add(connection)
        return connection

    def released(self, connection: UpstreamConnection) -> None:
        """Take an idle connection back: for who waits, else for who comes."""
        if self._closed:
            connection.close()
        elif not self._places.offer(connection):
            self._idle.append(connection)
            if len(self._idle) > self._options.idle_connections:
                self._idle[0].close()

    def dropped(self, connection: UpstreamConnection) -> None:
        """Forget a connection and free its place."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._places.leave()

    def sweep(self, now: float) -> None:
        """Let go what has waited for too long: idle connections, requests, responses."""
        for connection in [held for held in self._connections if held.deadline_at <= now]:
            connection.expire(now)

    def close(self) -> None:
        """Keep nothing idle from here on; what is busy may come to its end."""
        self._closed = True
        while self._idle:
            self._idle[0].close()
