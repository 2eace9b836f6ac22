"""The connections to one server: idle ones ready to be taken, busy ones under watch."""

import asyncio
import logging
from collections import deque
from ssl import SSLContext
from typing import Protocol

from proxy.errors import UpstreamError, UpstreamTimeoutError
from proxy.rules.health import Health
from proxy.upstream.address import TcpAddress
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.dial import Encryption, dial
from proxy.upstream.options import GroupOptions
from proxy.upstream.queue import Queue
from proxy.upstream.resolve import Resolver
from proxy.upstream.server import Server

log = logging.getLogger("proxyd.upstream")


class PoolOwner(Protocol):
    """The group of a pool."""

    def freed(self) -> None:
        """Learn that there is room for a connection more."""

    def changed(self) -> None:
        """Learn that a server's health has changed."""


class Pool:
    """All connections to one server.

    Idle ones are a stack: the one used last is the least likely to have been closed, and those at
    the bottom age until the sweep lets them go. `taken` counts the connections, those about to be
    opened included. `failure` is what the last connection failed with, `failures` counts those and
    the requests without an answer.
    """

    __slots__ = (
        "_closed",
        "_connections",
        "_encryption",
        "_max_connections",
        "_options",
        "_owner",
        "_queue",
        "_resolver",
        "failure",
        "failures",
        "health",
        "idle",
        "name",
        "server",
        "taken",
    )

    def __init__(
        self,
        group: str,
        server: Server,
        options: GroupOptions,
        owner: PoolOwner,
        queue: Queue,
        resolver: Resolver,
        context: SSLContext | None,
    ) -> None:
        address = server.address
        self.server = server
        self.name = f"upstream {group} ({address})"
        self.health = Health(options.ejection)
        self.failure = ""
        self.failures = 0
        self.taken = 0
        self.idle: deque[UpstreamConnection] = deque()
        self._options = options
        self._max_connections = server.max_connections or options.max_connections
        self._owner = owner
        self._queue = queue
        self._resolver = resolver
        self._connections: set[UpstreamConnection] = set()
        self._closed = False
        self._encryption: Encryption | None = None
        if context is not None and options.tls is not None:
            host = address.host if isinstance(address, TcpAddress) else ""
            self._encryption = Encryption(context, options.tls.server_name or host)

    @property
    def busy(self) -> int:
        """How many connections are not idle."""
        return self.taken - len(self.idle)

    def has_room(self) -> bool:
        """Whether a request can be taken now, on an idle connection or on a new one."""
        return bool(self.idle) or self.taken < self._max_connections

    def take(self) -> UpstreamConnection | None:
        """Take the idle connection that was used last."""
        return self.idle.pop() if self.idle else None

    def reserve(self) -> None:
        """Take a place, which the caller saw to be free, for a connection about to be opened."""
        self.taken += 1

    def leave(self) -> None:
        """Give a place back; it goes to who waits."""
        self.taken -= 1
        self._owner.freed()

    async def open(self) -> UpstreamConnection:
        """Open a connection on a place that the caller has taken; the connection gives it back.

        Raises UpstreamError or UpstreamTimeoutError, and then the place is free again.
        """
        opened = None
        try:
            opened = await self._dial()
        except (UpstreamError, UpstreamTimeoutError) as error:
            self._refused(error)
            raise
        finally:
            if opened is None:
                self.leave()
        return opened

    async def _dial(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection = await dial(
            self.name,
            self.server.address,
            self._resolver,
            lambda: UpstreamConnection(self.name, self, self._options, loop),
            self._options.connect_timeout_s,
            self._encryption,
        )
        if connection.closed:
            raise UpstreamError(f"{self.name} closed a connection as soon as it was open")
        self._connections.add(connection)
        if self.health.refusing:
            self.accepted()
        return connection

    # ── From the connections ─────────────────────────────────────────────────────────────────

    def released(self, connection: UpstreamConnection) -> None:
        """Take an idle connection back: for who waits, else for who comes."""
        if self._closed:
            connection.close()
        elif not self._queue.tickets or not self._queue.offer(connection):
            self.idle.append(connection)
            if len(self.idle) > self._options.idle_connections:
                self.idle[0].close()

    def dropped(self, connection: UpstreamConnection) -> None:
        """Forget a connection and free its place."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        self.leave()

    def answered(self) -> None:
        """Trust the server again."""
        if self.health.ejections:
            log.info("%s answers again", self.name)
        self.health.succeeded(asyncio.get_running_loop().time())
        self._owner.changed()

    def failed(self, error: UpstreamError | UpstreamTimeoutError) -> None:
        """Count a request without an answer against the server."""
        self.failures += 1
        before = self.health.ejections
        self.health.failed(asyncio.get_running_loop().time())
        self._tell_ejection(before, error)

    # ── Whether it lets anybody connect ──────────────────────────────────────────────────────

    def accepted(self) -> None:
        """Learn that connections can be opened again; whether it answers is another question."""
        self.health.refusing = False
        self._owner.changed()

    def _refused(self, error: UpstreamError | UpstreamTimeoutError) -> None:
        self.failure = str(error)
        self.failures += 1
        before = self.health.ejections
        self.health.refused(asyncio.get_running_loop().time())
        self._tell_ejection(before, error)

    def _tell_ejection(self, before: int, error: UpstreamError | UpstreamTimeoutError) -> None:
        """Let the log have the first of a row of ejections, and the group every one."""
        if self.health.ejections == before:
            return
        if not before:
            log.warning("%s; it is passed over where there is another server", error)
        self._owner.changed()

    # ── Time, and the end ────────────────────────────────────────────────────────────────────

    def sweep(self, now: float) -> None:
        """Let go what has waited for too long: idle connections, requests, responses."""
        for connection in [held for held in self._connections if held.deadline_at <= now]:
            connection.expire(now)

    def close(self) -> None:
        """Keep nothing idle from here on; what is busy may come to its end."""
        self._closed = True
        self.let_idle_go()

    def let_idle_go(self) -> None:
        """Close the connections that nobody uses."""
        while self.idle:
            self.idle[0].close()
