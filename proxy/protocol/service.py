"""What all client connections of a worker share."""

import asyncio
from typing import TYPE_CHECKING

from proxy.clock import Clock
from proxy.protocol.deadlines import Deadlines
from proxy.protocol.limits import ClientLimits

if TYPE_CHECKING:
    from proxy.pipeline.site import Site
    from proxy.protocol.handshake import Handshake
    from proxy.protocol.http1 import Http1
    from proxy.protocol.listener import PrefaceReader


class Service:
    """The running state of one worker's data plane.

    `site` is what new requests get; replacing the reference is a reload. `idle` holds the
    connections that wait for a next request, `prefaces` those whose PROXY header has not come, and
    `handshakes` those that speak TLS but not HTTP yet, the longest waiting first. `accepted` counts
    connections, `handshakes_complete` and `handshakes_failed` how those of TLS ended.
    """

    __slots__ = (
        "accepted",
        "clock",
        "connections",
        "deadlines",
        "draining",
        "emptied",
        "handshakes",
        "handshakes_complete",
        "handshakes_failed",
        "idle",
        "limits",
        "loop",
        "prefaces",
        "site",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        site: "Site",
        limits: ClientLimits,
        clock: Clock,
        deadlines: Deadlines,
    ) -> None:
        self.loop = loop
        self.site = site
        self.limits = limits
        self.clock = clock
        self.deadlines = deadlines
        self.connections: set[Http1] = set()
        self.idle: dict[Http1, None] = {}
        self.prefaces: dict[PrefaceReader, None] = {}
        self.handshakes: dict[Handshake, None] = {}
        self.accepted = 0
        self.handshakes_complete = 0
        self.handshakes_failed = 0
        self.draining = False
        self.emptied: asyncio.Future[None] | None = None

    def make_room(self) -> bool:
        """Let a new connection in: past the limit, the longest idle one goes (as in nginx)."""
        if len(self.connections) + len(self.prefaces) < self.limits.worker_connections:
            return True
        for connection in self.idle:
            connection.close_idle()
            return True
        return False

    def forget(self, connection: "Http1") -> None:
        """`connection` is gone."""
        self.connections.discard(connection)
        self.idle.pop(connection, None)
        self.settle()

    def settle(self) -> None:
        """Let `drain` end when nothing is left to wait for."""
        if self.emptied is not None and not self._busy() and not self.emptied.done():
            self.emptied.set_result(None)

    def _busy(self) -> bool:
        return bool(self.connections or self.handshakes or self.prefaces)

    async def drain(self, timeout_s: float) -> bool:
        """Let every connection finish, and the idle ones be silent; True when all did in time."""
        self.draining = True
        for connection in list(self.idle):
            connection.await_last_head()
        for preface in self.prefaces:
            preface.await_last_head()
        if not self._busy():
            return True
        self.emptied = self.loop.create_future()
        try:
            await asyncio.wait_for(self.emptied, timeout_s)
        except TimeoutError:
            return False
        return True

    def abort_all(self) -> None:
        """End every connection at once."""
        for handshake in list(self.handshakes):
            handshake.give_up()
        for preface in list(self.prefaces):
            preface.transport.abort()
        for connection in list(self.connections):
            connection.abort()
