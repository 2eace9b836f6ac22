"""The limit on a group's connections, and the queue of those who wait for one."""

import asyncio
from collections import deque

from proxy.errors import OverloadedError
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.options import GroupOptions

RETRY_AFTER = ((b"Retry-After", b"1"),)


class Places:
    """Counts the connections of one group and serves those who wait, first come, first served.

    Somebody waits only while every place is taken and no connection is idle. So what becomes free
    goes to the head of the queue, and a newcomer cannot overtake.
    """

    __slots__ = ("_group", "_options", "_waiting", "taken")

    def __init__(self, group: str, options: GroupOptions) -> None:
        self.taken = 0
        self._group = group
        self._options = options
        # When to give up, and the future: a connection, or None for a place to open one.
        self._waiting: deque[tuple[float, asyncio.Future[UpstreamConnection | None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def full(self) -> bool:
        """Whether no further connection may be opened."""
        return self.taken >= self._options.max_connections

    def take(self) -> None:
        """Take a place, which the caller saw to be free, for a connection about to be opened."""
        self.taken += 1

    def leave(self) -> None:
        """Give a place back; it goes to the head of the queue."""
        self.taken -= 1
        if self._grant(None):
            self.taken += 1

    def offer(self, connection: UpstreamConnection) -> bool:
        """Hand an idle connection to the head of the queue; False when nobody waits."""
        return bool(self._waiting) and self._grant(connection)

    async def wait(self) -> UpstreamConnection | None:
        """Wait in the queue for an idle connection, or for a place (None), which is then taken.

        Raises OverloadedError when the queue is full, or after `queue_timeout_s`.
        """
        if len(self._waiting) >= self._options.queue:
            raise OverloadedError(
                f"upstream {self._group}: {self.taken} connections are busy and"
                f" {len(self._waiting)} requests wait; raise max_connections or queue, or give the"
                " application more threads",
                RETRY_AFTER,
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[UpstreamConnection | None] = loop.create_future()
        ticket = (loop.time() + self._options.queue_timeout_s, future)
        self._waiting.append(ticket)
        try:
            return await future
        except asyncio.CancelledError:
            self._withdraw(ticket)
            raise

    def sweep(self, now: float) -> None:
        """Turn away those who have waited for too long."""
        while self._waiting and self._waiting[0][0] <= now:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(
                    OverloadedError(
                        f"upstream {self._group}: no connection became free within"
                        f" {self._options.queue_timeout_s:g} s; raise max_connections, or give the"
                        " application more threads",
                        RETRY_AFTER,
                    )
                )

    def _grant(self, what: UpstreamConnection | None) -> bool:
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_result(what)
                return True
        return False

    def _withdraw(self, ticket: tuple[float, asyncio.Future[UpstreamConnection | None]]) -> None:
        """Leave the queue; what was granted at the same moment goes to the next one."""
        future = ticket[1]
        if future.cancelled():
            if ticket in self._waiting:
                self._waiting.remove(ticket)
        elif future.exception() is None:
            connection = future.result()
            if connection is None:
                self.leave()
            else:
                connection.release()
