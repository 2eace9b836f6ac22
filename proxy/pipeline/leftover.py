"""Content of an upstream that nobody wants, taken to its end so that its connection lives on."""

import asyncio

from proxy.message import Fields, Source

# What stands behind the head already, or comes at once; more is not worth a connection. As Go's
# `maxPostHandlerReadBytes` is for what a handler has left: some, but not at any price.
LEFTOVER_BYTES = 16 * 1024
LEFTOVER_S = 0.1


def let_go(source: Source) -> None:
    """Be done with `source`; what it comes from stays open if a little patience is enough."""
    if source.length is not None and source.length > LEFTOVER_BYTES:
        source.cancel()
        return
    Leftover(source).begin()


class Leftover:
    """A Consumer that keeps nothing, and gives up past a size or a time."""

    __slots__ = ("_source", "_taken", "_timer")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._taken = 0
        self._timer = asyncio.get_running_loop().call_later(LEFTOVER_S, source.cancel)

    def begin(self) -> None:
        """Take what there is."""
        self._source.start(self)

    def feed(self, data: bytes) -> None:
        """Count, and end it when it is too much."""
        self._taken += len(data)
        if self._taken > LEFTOVER_BYTES:
            self._timer.cancel()
            self._source.cancel()

    def finish(self, trailers: Fields | None) -> None:
        """Nothing is left."""
        self._timer.cancel()

    def abort(self, error: Exception) -> None:
        """Nothing more comes."""
        self._timer.cancel()
