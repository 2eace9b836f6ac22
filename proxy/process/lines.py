"""What other processes write, cut into lines of bounded length. Pure."""

from collections.abc import Iterator

# A longer line of output becomes several. Precedent: systemd's journal LineMax 48K, docker 16 KiB.
LINE_BYTES = 8 * 1024


class LineSplitter:
    """Cuts a stream into lines of bounded length; empty ones say nothing and are left out."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from _pieces(line.rstrip(b"\r"))
        while len(self._rest) >= LINE_BYTES:
            yield self._rest[:LINE_BYTES]
            self._rest = self._rest[LINE_BYTES:]

    def finish(self) -> Iterator[bytes]:
        """Give what stood behind the last line feed."""
        yield from _pieces(self._rest)
        self._rest = b""


def _pieces(line: bytes) -> Iterator[bytes]:
    for begin in range(0, len(line), LINE_BYTES):
        yield line[begin : begin + LINE_BYTES]
