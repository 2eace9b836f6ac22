"""A consumer of stored content, a journal that is a list, and stores for tests."""

import asyncio
from collections.abc import Callable

from proxy.message import Fields, Source


class Taker:
    """A consumer that keeps what it gets, and does `on_feed` after each chunk."""

    def __init__(self, on_feed: Callable[[int], None] = lambda _count: None) -> None:
        self.chunks: list[bytes] = []
        self.error: Exception | None = None
        self.ended = asyncio.Event()
        self.ends = 0
        self._on_feed = on_feed

    def feed(self, data: bytes) -> None:
        assert data
        assert not self.ended.is_set()
        self.chunks.append(data)
        self._on_feed(len(self.chunks))

    def finish(self, trailers: Fields | None) -> None:
        assert trailers is None
        self.ends += 1
        self.ended.set()

    def abort(self, error: Exception) -> None:
        self.error = error
        self.ends += 1
        self.ended.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


async def taken(source: Source) -> Taker:
    """Return what came of `source`."""
    taker = Taker()
    source.start(taker)
    await taker.ended.wait()
    return taker


class Notes:
    """A journal that is a list."""

    def __init__(self) -> None:
        self.puts: list[tuple[bytes, int, float]] = []
        self.touched: list[bytes] = []
        self.dropped: list[bytes] = []

    def put(self, name: bytes, size_bytes: int, keep_until: float, head: bytes = b"") -> None:
        self.puts.append((name, size_bytes, keep_until))

    def touch(self, name: bytes) -> None:
        self.touched.append(name)

    def drop(self, name: bytes) -> None:
        self.dropped.append(name)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what a thread does and tells nobody; the test's own timeout is the bound."""
    while not happened():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
