"""The queue of requests that wait for a connection to one of a group's servers."""

import asyncio
from collections import deque
from typing import Final, Protocol

from proxy.errors import OverloadedError
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.options import GroupOptions

RETRY_AFTER: Final = ((b"Retry-After", b"1"),)


class Place(Protocol):
    """Room for one more connection to a server, which is taken."""

    async def open(self) -> UpstreamConnection:
        """Open a connection in it."""

    def leave(self) -> None:
        """Give it back."""


Granted = UpstreamConnection | Place
Ticket = tuple[float, asyncio.Future[Granted]]


class Queue:
    """Serves those who wait, first come, first served.

    Somebody waits only while no connection is idle and no server has room for one more, or none
    lets anybody connect. So what becomes free goes to the head, and a newcomer cannot overtake.
    `unreachable` says why nobody can connect, "" when somebody can.
    """

    __slots__ = ("_group", "_options", "tickets", "unreachable")

    def __init__(self, group: str, options: GroupOptions) -> None:
        self.unreachable = ""
        self._group = group
        self._options = options
        # When to give up, and the future. Pools look at it after each answer.
        self.tickets: deque[Ticket] = deque()

    def offer(self, what: Granted) -> bool:
        """Hand an idle connection, or a place, to the head of the queue; False without one."""
        while self.tickets:
            _, future = self.tickets.popleft()
            if not future.done():
                future.set_result(what)
                return True
        return False

    async def wait(self, until: float | None, taken: int) -> tuple[float, Granted]:
        """Wait for an idle connection, or for a place; return also when the waiting would end.

        Who comes back with that time had a turn that led to nothing, and is the next again. `taken`
        is the number of the group's connections. Raises OverloadedError when the queue is full, or
        after `queue_timeout_s`.
        """
        if until is None and len(self.tickets) >= self._options.queue:
            raise OverloadedError(self._full(taken), RETRY_AFTER)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Granted] = loop.create_future()
        if until is None:
            ticket = (loop.time() + self._options.queue_timeout_s, future)
            self.tickets.append(ticket)
        else:
            ticket = (until, future)
            self.tickets.appendleft(ticket)
        try:
            return ticket[0], await future
        except asyncio.CancelledError:
            self._withdraw(ticket)
            raise

    def sweep(self, now: float) -> None:
        """Turn away those who have waited for too long."""
        while self.tickets and self.tickets[0][0] <= now:
            _, future = self.tickets.popleft()
            if not future.done():
                future.set_exception(OverloadedError(self._too_long(), RETRY_AFTER))

    def _full(self, taken: int) -> str:
        waiting = len(self.tickets)
        if self.unreachable:
            return f"{self.unreachable}; {waiting} requests wait for it, as many as `queue` lets"
        return (
            f"upstream {self._group}: {taken} connections are busy and {waiting} requests wait;"
            " raise max_connections or queue, or give the application more threads"
        )

    def _too_long(self) -> str:
        waited = f"within {self._options.queue_timeout_s:g} s"
        if self.unreachable:
            return f"{self.unreachable}; that did not change {waited}"
        return (
            f"upstream {self._group}: no connection became free {waited}; raise max_connections, or"
            " give the application more threads"
        )

    def _withdraw(self, ticket: Ticket) -> None:
        """Leave the queue; what was granted at the same moment goes to the next one."""
        future = ticket[1]
        if future.cancelled():
            if ticket in self.tickets:
                self.tickets.remove(ticket)
        elif future.exception() is None:
            granted = future.result()
            if isinstance(granted, UpstreamConnection):
                granted.release()
            else:
                granted.leave()
