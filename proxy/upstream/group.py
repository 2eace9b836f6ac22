"""The servers behind one name of the configuration: a connection to the right one, in its turn."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

from proxy.errors import NoAnswerError, StaleConnectionError, UpstreamError, UpstreamTimeoutError
from proxy.message import Fields, Request
from proxy.rules.balancing import sticky_values
from proxy.rules.retrying import IDEMPOTENT, RetryBudget, may_retry
from proxy.upstream.address import Address
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.options import GroupOptions
from proxy.upstream.pool import Pool
from proxy.upstream.queue import Queue
from proxy.upstream.resolve import Resolver
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.roster import FAIL_FAST_S, Roster
from proxy.upstream.server import Server
from proxy.upstream.tls import client_context
from proxy.upstream.wish import NOBODY, Wish, cookie_value, key_reader, sticky_field

# How often to knock at an application that is being started, while requests wait for it: they
# should not notice, and its socket costs nothing to ask.
KNOCK_S: Final = 0.05

NOT_REPEATED: Final = (
    "The application behind this server stopped before it had answered. The request was not sent"
    " again: it may have been carried out."
)


class Group:
    """Servers that are equal, or nearly so.

    Usage: `group.acquire_now() or await group.acquire()`, then `begin` on the connection in the
    same step, which goes back by itself; when `keyed`, both are given the request's `wish`. The
    worker's timer calls `sweep` every 0.25 to 0.5 s; all timeouts but the one for connecting hang
    on it. Raises CertificateError.
    """

    __slots__ = (
        "_budget",
        "_handed",
        "_knocking",
        "_only_idle",
        "_options",
        "_pools",
        "_queue",
        "_read_key",
        "_roster",
        "_sticky_name",
        "_sticky_values",
        "keyed",
        "managed",
        "name",
    )

    def __init__(
        self,
        name: str,
        servers: Sequence[Server | Address],
        options: GroupOptions,
        resolver: Resolver | None = None,
    ) -> None:
        self.name = name
        self.keyed = bool(options.sticky_cookie) or options.balance.kind == "hash"
        self.managed = options.managed
        self._options = options
        resolver = resolver or Resolver()
        context = None if options.tls is None else client_context(options.tls)
        given = [
            server if isinstance(server, Server) else Server(address=server) for server in servers
        ]
        self._queue = Queue(name, options)
        self._pools = [
            Pool(name, server, options, self, self._queue, resolver, context) for server in given
        ]
        self._roster = Roster(self._pools, options)
        self._knocking: asyncio.Task[None] | None = None
        # The idle connections of a single server: there is nothing to choose.
        self._only_idle = self._pools[0].idle if len(self._pools) == 1 else None
        self._handed = 0
        self._budget = RetryBudget(options.retry_budget_percent)
        self._read_key = key_reader(options.balance)
        self._sticky_name = options.sticky_cookie.encode()
        self._sticky_values = sticky_values(name, [str(server.address) for server in given])

    @property
    def pools(self) -> Sequence[Pool]:
        """The servers, in the order of the configuration."""
        return self._pools

    @property
    def connections(self) -> int:
        """How many connections there are, those about to be opened included."""
        return sum(pool.taken for pool in self._pools)

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return sum(len(pool.idle) for pool in self._pools)

    @property
    def requests(self) -> int:
        """How many requests were given a connection, each attempt counted."""
        return self._handed

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._queue.tickets)

    # ── Connections ──────────────────────────────────────────────────────────────────────────

    def acquire_now(self, wish: Wish | None = None) -> UpstreamConnection | None:
        """Return an idle connection, if there is one to the server whose turn it is."""
        idle = self._only_idle
        if idle is not None:
            if idle:
                self._handed += 1
                return idle.pop()
            return None
        if not any(pool.idle for pool in self._pools):
            return None
        now = asyncio.get_running_loop().time()
        pool = self._roster.choose(wish, now)
        if pool is None:
            return None
        if not pool.idle:
            self._roster.keep(pool)
            return None
        self._roster.asked(pool, now)
        self._handed += 1
        return pool.idle.pop()

    async def acquire(self, wish: Wish | None = None) -> UpstreamConnection:
        """Return an idle connection, a new one, or one that somebody else had to finish with.

        Raises UpstreamError, UpstreamTimeoutError, OverloadedError.
        """
        wish = wish or Wish()
        loop = asyncio.get_running_loop()
        until: float | None = None
        if wish.rests:
            # A process that dies still takes connections until its sockets are closed.
            wish.rests = False
            await asyncio.sleep(KNOCK_S)
        while True:
            now = loop.time()
            pool = self._roster.choose(wish, now)
            if pool is not None:
                self._roster.asked(pool, now)
                connection = pool.take()
                if connection is None:
                    pool.reserve()
                    connection = await self._open(pool, wish)
            elif self._nobody(wish, now):
                continue
            else:
                until, granted = await self._queue.wait(until, self.connections)
                if isinstance(granted, UpstreamConnection):
                    connection = granted
                else:
                    connection = await self._open(cast("Pool", granted), wish)
            if connection is not None and not connection.closed:
                self._handed += 1
                return connection

    async def _open(self, pool: Pool, wish: Wish) -> UpstreamConnection | None:
        """Open a connection on a place that is taken, or None; the next server may do better."""
        try:
            return await pool.open()
        except (UpstreamError, UpstreamTimeoutError) as error:
            wish.failed.add(self._pools.index(pool))
            last = self._roster.nobody_left(wish, asyncio.get_running_loop().time())
            if last and not self.managed:
                raise
            self._queue.unreachable = str(error)
            return None

    def _nobody(self, wish: Wish, now: float) -> bool:
        """Deal with a request for which no server has room; whether to choose once more.

        Else it has to wait. Raises UpstreamError when there is nothing to wait for.
        """
        if not self._roster.nobody_left(wish, now):
            return False
        if wish.failed and not self._roster.nobody_left(None, now):
            wish.failed.clear()  # all have failed it, so the first may try again
            return True
        if self.managed and self._pools:
            wish.failed.clear()
            self._knock()
            return False
        raise UpstreamError(self._unreachable())

    def _unreachable(self) -> str:
        if not self._pools:
            return f"upstream {self.name} has no servers"
        latest = max(self._pools, key=lambda pool: pool.health.failed_at)
        return f"{latest.failure} (that was just now; it is tried again within {FAIL_FAST_S:g} s)"

    # ── Waiting for an application that is started ───────────────────────────────────────────

    def _knock(self) -> None:
        # Not set to None by the task at its end: one that is cancelled before it began has no end.
        if self._knocking is None or self._knocking.done():
            knocking = self._keep_knocking()
            self._knocking = asyncio.get_running_loop().create_task(knocking)

    async def _keep_knocking(self) -> None:
        """Try to connect for those who wait, until somebody lets us in or nobody waits."""
        while True:
            await asyncio.sleep(KNOCK_S)
            if not self._queue.tickets:
                return
            for pool in self._pools:
                if pool.has_room() and await self._knock_at(pool):
                    return

    async def _knock_at(self, pool: Pool) -> bool:
        pool.reserve()
        try:
            connection = await pool.open()
        except (UpstreamError, UpstreamTimeoutError) as error:
            self._queue.unreachable = str(error)
            return False
        connection.release()
        self.freed()
        return True

    # ── What a request wants ─────────────────────────────────────────────────────────────────

    def wish(self, request: Request, client: str, *, secure: bool, own: bool) -> Wish:
        """Return what a request of `client` (an address) wants of a `keyed` group.

        `own`: its answer is for this client alone, so that a cookie may be set.
        """
        server = NOBODY
        if self._sticky_name:
            value = cookie_value(request, self._sticky_name)
            if value in self._sticky_values:
                server = self._sticky_values.index(value)
        key = self._read_key(request, client)
        return Wish(key, server, secure=secure, named=own and bool(self._sticky_name))

    def marked(
        self, response: UpstreamResponse, wish: Wish | None, connection: UpstreamConnection
    ) -> UpstreamResponse:
        """Return the answer, with the cookie that leads its client to the same server again."""
        if wish is None or not wish.named:
            return response
        index = self._index(connection)
        now = asyncio.get_running_loop().time()
        # Who has a server that is merely full comes back to it.
        if wish.server != NOBODY and (
            wish.server == index or self._roster.usable(wish.server, now)
        ):
            return response
        field = sticky_field(self._sticky_name, self._sticky_values[index], secure=wish.secure)
        fields = Fields([*response.fields.lines, (b"Set-Cookie", field)])
        # Without the head, which the answers of other clients share.
        return UpstreamResponse(
            response.status,
            response.reason,
            fields,
            response.body,
            response.minor_version,
            response.trailers,
            response.upgraded,
        )

    def again(
        self,
        wish: Wish | None,
        connection: UpstreamConnection,
        error: NoAnswerError,
        method: bytes,
        body_repeatable: bool = True,
    ) -> Wish | None:
        """Return what to want of the next attempt at a request, None when there should be none.

        The error then says so, where the request may have been carried out. A managed server
        closes no idle connection while it lives: one that does is about to die, perhaps of this
        very request, which therefore gets no more than one connection for nothing.
        """
        wish = wish or Wish()
        managed = self.managed
        stale = isinstance(error, StaleConnectionError) and not (managed and wish.stale)
        elsewhere = (len(self._pools) > 1 or managed) and wish.retries < self._options.retries
        if not may_retry(method, stale, False, body_repeatable, elsewhere=elsewhere):
            if not body_repeatable or method not in IDEMPOTENT:
                error.hint = NOT_REPEATED
            return None
        if not self._budget.spend(self._handed):
            return None
        if not stale:
            wish.retries += 1
            wish.failed.add(self._index(connection))
            wish.rests = len(self._pools) == 1
        elif managed:
            wish.stale = True
        if managed:
            cast("Pool", connection.owner).let_idle_go()
        return wish

    def _index(self, connection: UpstreamConnection) -> int:
        return self._pools.index(cast("Pool", connection.owner))

    # ── From the pools and the probes ────────────────────────────────────────────────────────

    def freed(self) -> None:
        """Give the room that there is to those who wait."""
        queue = self._queue
        while queue.tickets:
            now = asyncio.get_running_loop().time()
            pool = self._roster.choose(None, now)
            if pool is None:
                return
            self._roster.asked(pool, now)
            connection = pool.take()
            if connection is not None:
                if not queue.offer(connection):
                    connection.release()
                continue
            pool.reserve()
            if not queue.offer(pool):
                pool.taken -= 1

    def changed(self) -> None:
        """Learn that a server's health has changed."""
        self._roster.changed()
        if not any(pool.health.refusing for pool in self._pools):
            self._queue.unreachable = ""

    def probed(self, index: int, up: bool) -> None:
        """Learn from its probe whether the server at `index` should get requests."""
        self._pools[index].health.probed(up, asyncio.get_running_loop().time())
        self._roster.changed()

    def move(self, index: int, address: Address, left: Callable[[], None]) -> None:
        """Send what comes from now on to the successor of the process at `index`.

        `left` is called when no request of the former is under way any more.
        """
        self._pools[index].move(address, left)

    # ── Time, and the end ────────────────────────────────────────────────────────────────────

    def sweep(self, now: float) -> None:
        """Enforce all timeouts; `now` is the loop's time."""
        self._budget.note(now, self._handed)
        self._queue.sweep(now)
        for pool in self._pools:
            pool.sweep(now)
        if self._queue.tickets:
            self.freed()  # a server may be back without anybody having noticed

    def close(self) -> None:
        """Keep nothing idle from here on; requests under way come to their end.

        Keep calling `sweep` until `connections` is 0.
        """
        if self._knocking is not None:
            self._knocking.cancel()
        for pool in self._pools:
            pool.close()
