"""What the stores of the cache cost: memory for each entry, CPU for a look-up and for a start.

    python -m bench.stores [--folder FOLDER] [--memory 1000 100000] [--disk 10000 100000]

Look-ups are of random keys, so that the processor's caches do not flatter them. Times are of CPU,
of all threads together. A start is that of the keeper, which nobody waits for: files are found by
their names before it is done. A million files take 4 GB and some minutes.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from proxy.cache.boot import boot_name
from proxy.cache.disk import DiskStore
from proxy.cache.entry import Entry
from proxy.cache.head import Now
from proxy.cache.index import INDEX
from proxy.cache.inventory import Inventory
from proxy.cache.memory import MemoryStore
from proxy.cache.store import Later, Marker
from proxy.cache.upkeep import IDLE_S, Upkeep
from proxy.message import Fields

LOOKUPS = 20_000
ROUNDS = 5
CONTENT = os.urandom(1024)
LINES = [
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"Cache-Control", b"public, max-age=60"),
    (b"Date", b"Sun, 22 Nov 2026 12:00:00 GMT"),
    (b"ETag", b'"5f3e-1234567890"'),
    (b"Last-Modified", b"Sat, 21 Nov 2026 12:00:00 GMT"),
    (b"Vary", b"Accept-Encoding"),
]


class NoJournal:
    """Nobody keeps account."""

    def put(self, name: bytes, size_bytes: int, keep_until: float, head: bytes = b"") -> None:
        """Note nothing."""

    def touch(self, name: bytes) -> None:
        """Note nothing."""

    def drop(self, name: bytes) -> None:
        """Note nothing."""


def made(number: int, content: bytes) -> Entry:
    """Return an entry as a small page makes it, all of its parts its own."""
    now = time.monotonic()
    return Entry(
        key=b"https://example.com/articles/%d" % number,
        status=200,
        fields=Fields([(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in LINES]),
        body=content,
        request_at=time.time(),
        response_at=time.time(),
        born_at=now,
        fresh_until=now + 600,
        swr_until=now + 600,
        sie_until=now + 600,
        keep_until=now + 86400,
    )


def fastest_us(run: Callable[[], int]) -> float:
    """Return the best of some rounds, in microseconds for each of the things that `run` did."""
    times = []
    for _ in range(ROUNDS):
        began_at = time.process_time()
        count = run()
        times.append((time.process_time() - began_at) / count)
    return min(times) * 1e6


def random_keys(size: int) -> list[bytes]:
    """Return the keys to look up."""
    return [b"https://example.com/articles/%d" % random.randrange(size) for _ in range(LOOKUPS)]  # noqa: S311


def measure_memory(size: int) -> None:
    """Print what `size` entries in memory cost."""
    content = [bytes(bytearray(CONTENT)) for _ in range(size)]
    tracemalloc.start()
    before, _peak = tracemalloc.get_traced_memory()
    store = MemoryStore(10**12)
    for number in range(size):
        store.put(made(number, content[number]))
    after, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    taken = (after - before) / size
    counted = store.cost_bytes / size - len(CONTENT)
    keys, now = random_keys(size), time.monotonic()
    entries = [entry for key in keys if isinstance(entry := store.get(key), Entry)]

    def get() -> int:
        find = store.get
        for key in keys:
            find(key)
        return len(keys)

    def touch() -> int:
        for entry in entries:
            store.touch(entry, now)
        return len(entries)

    def evict() -> int:
        full = MemoryStore(store.cost_bytes)
        for entry in store.entries():
            full.put(entry)
        fresh = [made(-number, CONTENT) for number in range(1, 1001)]
        began_at = time.process_time()
        for entry in fresh:
            full.put(entry)
        evict_us.append((time.process_time() - began_at) / len(fresh) * 1e6)
        return 1

    evict_us: list[float] = []
    evict()
    print(
        f"memory {size:>7,} entries: {taken:6.0f} bytes each beside the content"
        f" ({counted:.0f} counted); get {fastest_us(get):.3f} µs, touch {fastest_us(touch):.2f} µs,"
        f" put with eviction {min(evict_us):.1f} µs"
    )


async def measure_disk(folder: Path, size: int) -> None:
    """Print what look-ups cost among `size` files."""
    store = DiskStore(folder, NoJournal())
    began_at = time.process_time()
    for first in range(0, size, 1000):
        for number in range(first, min(first + 1000, size)):
            store.put(made(number, CONTENT))
        await store.flush()
    put_us = (time.process_time() - began_at) / size * 1e6
    keys = random_keys(size)
    absent = [key + b"/absent" for key in keys]
    cold = _look_up(store, keys)
    hit_us = fastest_us(lambda: LOOKUPS - _look_up(store, keys))
    miss_us = fastest_us(lambda: LOOKUPS - _look_up(store, absent))
    began_at = time.process_time()
    for key in keys[:2000]:
        await store.read(key)
    read_us = (time.process_time() - began_at) / 2000 * 1e6
    print(
        f"disk   {size:>7,} files:   hit {hit_us:.1f} µs, miss {miss_us:.1f} µs,"
        f" hit in a thread {read_us:.0f} µs, put {put_us:.0f} µs;"
        f" {cold / LOOKUPS:.1%} were not in the page cache any more"
    )
    await store.close()


def measure_start(folder: Path) -> None:
    """Print what it costs the keeper to begin: without a catalogue, and with the one of before."""
    boot = boot_name()
    figures = []
    for _ in range(2):
        upkeep = Upkeep(folder, 1 << 50, lambda: Now(time.time(), time.monotonic(), boot))
        began_at = time.process_time()
        while upkeep.step() < IDLE_S:
            pass  # without the rests that it takes for the sake of others
        figures.append(time.process_time() - began_at)
        upkeep.close()
    with closing(Inventory(folder)) as inventory:
        files = inventory.stats().files
    index_bytes = (folder / INDEX).stat().st_size / files
    print(
        f"disk   {files:>7,} files:   start {figures[1]:.2f} s, {figures[0]:.1f} s when the"
        f" catalogue was lost, which has {index_bytes:.0f} bytes for each"
    )


def _look_up(store: DiskStore, keys: Sequence[bytes]) -> int:
    """Look for all keys; return how many are left for a thread."""
    return sum(isinstance(store.read_now(key), Later | Marker) for key in keys)


class Sink:
    """Takes content, and forgets it."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Forget it."""

    def finish(self, trailers: Fields | None) -> None:
        """All of it came."""
        self.ended.set()

    def abort(self, error: Exception) -> None:
        """It broke off."""
        raise error


async def measure_content(folder: Path, size_bytes: int) -> None:
    """Print what one hit with so much content costs, from look-up to the last byte."""
    store = DiskStore(folder, NoJournal())
    store.put(made(0, os.urandom(size_bytes)))
    await store.flush()
    key = b"https://example.com/articles/0"
    times = []
    for _ in range(50):
        began_at = time.process_time()
        found = store.read_now(key)
        if not isinstance(found, Entry):
            raise SystemExit("the page cache does not hold the file")
        if not isinstance(found.body, bytes):
            sink = Sink()
            found.body.source().start(sink)
            await sink.ended.wait()
        times.append(time.process_time() - began_at)
    print(f"disk   one hit of {size_bytes:>10,} bytes: {min(times) * 1e6:.0f} µs")
    await store.close()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.stores")
    parser.add_argument("--folder", help="where files are made; a temporary folder by default")
    parser.add_argument("--memory", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--disk", type=int, nargs="*", default=[10_000, 100_000])
    given = parser.parse_args()
    for size in given.memory:
        measure_memory(size)
    for size in given.disk:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            asyncio.run(measure_disk(Path(folder), size))
            measure_start(Path(folder))
    for size_bytes in (64 * 1024, 10 * 1024 * 1024):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            asyncio.run(measure_content(Path(folder), size_bytes))


if __name__ == "__main__":
    main()
