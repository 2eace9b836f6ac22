"""A body that goes out from a copy in memory: sent by the kernel, or read where that cannot be.

Nothing here waits: what is pushed is there, and was checked when it was copied (see sealed.py).
"""

import os
from collections.abc import Callable, Sequence
from typing import Final

from proxy.cache.sealed import Sealed
from proxy.message import NO_FILES, Consumer
from proxy.paced import PacedSource
from proxy.page_cache import LEAST_SEND_BYTES, SEND_BYTES
from proxy.rules.ranges import Span

# As for files: from 128 KiB on the cost per byte is flat.
CHUNK_BYTES: Final = 256 * 1024


class SealedSource(PacedSource):
    """A `Source` of pieces in order: bytes as they are, and spans of the copy."""

    __slots__ = ("_copy", "_send_file")

    def __init__(self, copy: Sealed, pieces: Sequence[bytes | Span]) -> None:
        super().__init__(pieces)
        self._copy = copy
        self._send_file: Callable[[int, int, int], int] | None = None

    def start(self, consumer: Consumer) -> None:
        """Begin to push; the first chunk comes before this returns."""
        self._send_file = getattr(consumer, "send_file", None)
        super().start(consumer)

    def _push_span(self, consumer: Consumer, span: Span) -> None:
        descriptor = self._copy.descriptor
        count = min(SEND_BYTES, span.stop - span.first)
        if self._send_file is not None and count >= LEAST_SEND_BYTES:
            sent = self._send_file(descriptor, span.first, count)
            if sent != NO_FILES:
                self._count(span, sent)
                self._go_on(consumer)
                return
            self._send_file = None
        data = os.pread(descriptor, min(count, CHUNK_BYTES), span.first)
        self._count(span, len(data))
        self._feed(consumer, data)
