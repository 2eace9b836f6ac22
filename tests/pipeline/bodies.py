"""Bodies written by hand: a source that pushes what a test says, and a consumer that remembers."""

import asyncio
from collections.abc import Callable

from proxy.message import Consumer, Fields


class Pushed:
    """A Source whose test is the one that pushes; `on_start` is called with the consumer."""

    def __init__(
        self, length: int | None = None, on_start: Callable[[Consumer], None] | None = None
    ) -> None:
        self.length = length
        self.consumer: Consumer | None = None
        self.paused = False
        self.cancelled = False
        self._on_start = on_start

    @property
    def to(self) -> Consumer:
        assert self.consumer is not None
        return self.consumer

    def start(self, consumer: Consumer) -> None:
        assert not self.cancelled
        self.consumer = consumer
        if self._on_start is not None:
            self._on_start(consumer)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def cancel(self) -> None:
        self.cancelled = True


class Taken:
    """A Consumer that checks the protocol of its calls."""

    def __init__(self) -> None:
        self.data = b""
        self.finished = False
        self.trailers: Fields | None = None
        self.error: Exception | None = None
        self.then: Callable[[], None] = lambda: None

    @property
    def ended(self) -> bool:
        return self.finished or self.error is not None

    def feed(self, data: bytes) -> None:
        assert data
        assert not self.ended
        self.data += data
        self.then()

    def finish(self, trailers: Fields | None) -> None:
        assert not self.ended
        self.finished, self.trailers = True, trailers

    def abort(self, error: Exception) -> None:
        assert not self.ended
        self.error = error


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
