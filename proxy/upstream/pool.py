"""The connections to one server: idle ones ready to be taken, busy ones under watch."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from ssl import SSLContext
from time import monotonic
from typing import Final, NamedTuple, Protocol

from proxy.errors import NoAnswerError, UpstreamError, UpstreamTimeoutError
from proxy.rules.health import Health
from proxy.upstream.address import Address, TcpAddress
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.dial import Encryption, dial
from proxy.upstream.options import GroupOptions
from proxy.upstream.queue import Queue
from proxy.upstream.resolve import Resolver
from proxy.upstream.server import Server

log: Final = logging.getLogger("proxyd.upstream")


class PoolOwner(Protocol):
    """The group of a pool."""

    def freed(self) -> None:
        """Learn that there is room for a connection more."""

    def changed(self) -> None:
        """Learn that a server's health has changed."""


class Former(NamedTuple):
    """The connections to the process before a move that are still busy, and its tunnels."""

    connections: set[UpstreamConnection]
    tunnels: set[asyncio.BaseTransport]
    left: Callable[[], None]


class Pool:
    """All connections to one server.

    Idle ones are a stack: the one used last is the least likely to have been closed, and those at
    the bottom age until the sweep lets them go. `taken` counts the connections, those about to be
    opened included. `failure` is what the last connection failed with, `failures` counts those and
    the requests without an answer, `served` the requests after which a connection could be used
    again or had to be closed.

    An application's process has successors, each at an address of its own (`move`): what is under
    way comes to its end where it is, and counts no more.
    """

    __slots__ = (
        "_address",
        "_closed",
        "_connections",
        "_encryption",
        "_former",
        "_max_connections",
        "_options",
        "_owner",
        "_queue",
        "_resolver",
        "_tunnels",
        "failure",
        "failures",
        "health",
        "idle",
        "name",
        "served",
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
        self.served = 0
        self.taken = 0
        self.idle: deque[UpstreamConnection] = deque()
        self._address = address
        self._former: list[Former] = []
        self._tunnels: set[asyncio.BaseTransport] = set()
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
        try:
            return await self._dial()
        except BaseException as error:  # who asks may have been cancelled
            if isinstance(error, NoAnswerError):
                self.failed(error)
            elif isinstance(error, UpstreamError | UpstreamTimeoutError):
                self._refused(error)
            self.leave()
            raise

    async def _dial(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        while True:
            address = self._address
            began_at = monotonic()
            try:
                connection = await dial(
                    self.name,
                    address,
                    self._resolver,
                    lambda: UpstreamConnection(self.name, self, self._options, loop),
                    self._options.connect_timeout_s,
                    self._encryption,
                )
            except UpstreamError:
                if address is self._address:
                    raise
                continue
            if address is self._address:
                break
            connection.close()  # it has moved meanwhile
        if connection.closed:
            # It lets connect; a moment later it would have been a request without an answer.
            raise NoAnswerError(f"{self.name} closed a connection as soon as it was open")
        connection.dialled_s = monotonic() - began_at
        self._connections.add(connection)
        if self.health.refusing:
            self.accepted()
        return connection

    def move(self, address: Address, left: Callable[[], None]) -> None:
        """Connect to a successor from now on; `left` is called when nothing of the former is."""
        self._address = address
        former = Former(self._connections - {*self.idle}, self._tunnels, left)
        while self.idle:
            self.idle[0].close()
        self.taken -= len(self._connections)
        self._connections, self._tunnels = set(), set()
        self.health.succeeded(asyncio.get_running_loop().time())
        self._former.append(former)
        self._forget_former()
        self._owner.changed()
        self._owner.freed()

    # ── From the connections ─────────────────────────────────────────────────────────────────

    def released(self, connection: UpstreamConnection) -> None:
        """Take an idle connection back: for who waits, else for who comes."""
        self.served += 1
        if self._closed or (self._former and connection not in self._connections):
            connection.close()
        elif not self._queue.tickets or not self._queue.offer(connection):
            self.idle.append(connection)
            if len(self.idle) > self._options.idle_connections:
                self.idle[0].close()

    def dropped(self, connection: UpstreamConnection) -> None:
        """Forget a connection and free its place."""
        if connection not in self._connections:
            self._dropped_of_former(connection)
            return
        self._connections.remove(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        else:
            self.served += 1
        self.leave()

    def detached(self, transport: asyncio.BaseTransport) -> None:
        """Learn that a connection, which is dropped next, has become a tunnel."""
        self._tunnels.add(transport)

    def _dropped_of_former(self, connection: UpstreamConnection) -> None:
        for former in self._former:
            former.connections.discard(connection)
        self._forget_former()

    def _forget_former(self) -> None:
        """Let go the processes that nothing is under way to any more."""
        for former in [each for each in self._former if not (each.connections or each.tunnels)]:
            self._former.remove(former)
            former.left()

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
        held = self._connections
        if self._tunnels:
            self._tunnels = open_only(self._tunnels)
        if self._former:
            held = held.union(*(former.connections for former in self._former))
            for former in self._former:
                former.tunnels.intersection_update(open_only(former.tunnels))
            self._forget_former()
        for connection in [each for each in held if each.deadline_at <= now]:
            connection.expire(now)

    def close(self) -> None:
        """Keep nothing idle from here on; what is busy may come to its end."""
        self._closed = True
        self.let_idle_go()

    def let_idle_go(self) -> None:
        """Close the connections that nobody uses."""
        while self.idle:
            self.idle[0].close()


def open_only(tunnels: set[asyncio.BaseTransport]) -> set[asyncio.BaseTransport]:
    """Return those that nobody has closed."""
    return {transport for transport in tunnels if not transport.is_closing()}
