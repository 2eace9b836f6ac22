"""The cache as a worker has it: its stores, its way to the other workers, and theirs to it."""

import asyncio
import os
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from msgspec import structs

from proxy.cache.disk import DiskStore
from proxy.cache.journal import Journal
from proxy.cache.memory import MemoryStore
from proxy.cache.purges import Purges
from proxy.cache.tiered import Tiered
from proxy.clock import Clock
from proxy.compose import Parts, client_limits
from proxy.config.schema import Config
from proxy.pipeline.entrance import Entrance
from proxy.pipeline.forward import forward
from proxy.pipeline.sibling import Siblings
from proxy.pipeline.site import Route
from proxy.pipeline.timing import timed_receive
from proxy.protocol.deadlines import Deadlines
from proxy.protocol.listener import listen
from proxy.protocol.service import Service
from proxy.upstream.address import UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions

# What another worker asks has a field more than its client sent, and that one may be long.
FIELD_BYTES = 64 * 1024
# The other worker has all timeouts that a request needs; this one is for a worker that hangs, and
# is longer than its heartbeat's.
SIBLING_READ_S = 3600.0
SIBLING_CONNECT_S = 1.0
SIBLING_CONNECTIONS = 4096


class WorkerCache:
    """What `parts` needs for routes with a cache; `sockets` are those of all workers, by number."""

    def __init__(self, config: Config, parts: Parts, number: int, sockets: Sequence[Path]) -> None:
        self._journal: Journal | None = None
        self._disk: DiskStore | None = None
        self._config = config
        self._site = parts.site
        self._path = sockets[number] if sockets else None
        self._groups: list[Group] = []
        self._service: Service | None = None
        self._server: asyncio.Server | None = None
        self.tiered: Tiered | None = None
        if not config.uses_cache:
            return
        folder = config.cache_folder
        self.purges = Purges(folder)
        if config.cache.disk:
            self._journal = Journal(folder)
            self._disk = DiskStore(
                folder,
                self._journal,
                object_bytes=config.cache.memory_object,
                copies_bytes=config.cache.memory_copies if config.cache.memory else 0,
            )
        memory = MemoryStore(config.cache.memory, parts.site.cache_figures.evict)
        self.tiered = Tiered(memory, self._disk, self.purges, config.cache.memory_object)
        parts.site.cache = self.tiered
        if len(sockets) > 1:
            ways = [None if at == number else self._way(path) for at, path in enumerate(sockets)]
            parts.site.siblings = Siblings(ways)

    def _way(self, path: Path) -> Route:
        """Return the route to another worker."""
        options = GroupOptions(
            connect_timeout_s=SIBLING_CONNECT_S,
            read_timeout_s=SIBLING_READ_S,
            max_connections=SIBLING_CONNECTIONS,
            idle_timeout_s=60,
            response_header_bytes=FIELD_BYTES * 2,
        )
        group = Group(path.stem, [UnixAddress(path)], options)
        self._groups.append(group)
        route = Route(path.stem, forward)
        route.inside = True
        route.buffer_response = 0
        route.group = group
        if any(given.server_timing for given in self._config.route):
            route.receive = partial(timed_receive, believed=True)
        return route

    async def listen(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        """Let the other workers ask."""
        if self.tiered is None or self._path is None:
            return
        limits = client_limits(self._config)
        limits = structs.replace(
            limits,
            header_bytes=limits.header_bytes + FIELD_BYTES,
            header_count=limits.header_count + 1,
            worker_connections=SIBLING_CONNECTIONS,
        )
        self._service = Service(loop, self._site, limits, clock, Deadlines(loop.time()))
        sock = socket.socket(socket.AF_UNIX)
        self._path.unlink(missing_ok=True)  # of a worker that died in this one's place
        sock.bind(str(self._path))
        os.chmod(self._path, 0o600)
        self._server = await listen(
            self._service, sock, backlog=1024, entrance=Entrance(inside=True)
        )

    def sweep(self, now: float) -> None:
        """Enforce the timeouts between workers; `now` is the loop's time."""
        for group in self._groups:
            group.sweep(now)
        if self._service is not None:
            self._service.deadlines.sweep(now)

    def tick(self) -> None:
        """Write the journal, and look after the file of purges; once a second."""
        if self.tiered is not None:
            self.purges.check()
        if self._journal is not None:
            self._journal.flush()

    async def drain(self, timeout_s: float) -> None:
        """Let other workers have what they have asked for."""
        if self._server is not None:
            self._server.close()
        if self._service is not None:
            await self._service.drain(timeout_s)
            self._service.abort_all()

    async def close(self) -> None:
        """Finish what is under way to the disk."""
        for group in self._groups:
            group.close()
        if self._disk is not None:
            await self._disk.close()
        if self._journal is not None:
            self._journal.flush()
            self._journal.close()
        if self.tiered is not None:
            self.purges.close()
