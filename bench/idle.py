"""What idle keep-alive connections cost one worker: memory for each, and how fast hits are beside.

    python -m bench.idle [CONNECTIONS]

Each connection, 10,000 unless told, has had one answer before it is idle. Linux only.
"""

import resource
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.errors import BenchError
from bench.workers import CONTENT, request, serving

CONNECTIONS = 10_000
HITS = 2000
PATIENCE_S = 60.0
AIM_KB = 10.0


def main(arguments: list[str]) -> int:
    """Measure and print."""
    wanted = int(arguments[0]) if arguments else CONNECTIONS
    allow_files(wanted + 64)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        site = serving(folder, 1, connections=wanted + 64)
        port, (worker,) = stack.enter_context(site)
        warm_up(port)
        before, alone = rss_bytes(worker), latencies_us(port)
        began_at = time.monotonic()
        for _ in range(wanted):
            wire = stack.enter_context(connected(port))
            ask(wire)
        took_s = time.monotonic() - began_at
        each = (rss_bytes(worker) - before) / wanted
        beside = latencies_us(port)
    print(f"{wanted:,} connections, opened and answered once in {took_s:.1f} s")
    print(f"memory for each: {each / 1000:.1f} KB (aim {AIM_KB:g}), of a worker of {before:,} B")
    for name, hits in (("alone", alone), ("beside them", beside)):
        print(
            f"a hit {name}: median {median(hits):.0f} µs, 99 of 100 in"
            f" {sorted(hits)[len(hits) * 99 // 100]:.0f} µs"
        )
    return 0


def allow_files(wanted: int) -> None:
    """Let this process open so many files. Raises BenchError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise BenchError(f"only {hard} files may be open at once, {wanted} are needed: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def connected(port: int) -> socket.socket:
    """Connect to the server."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def ask(wire: socket.socket) -> None:
    """Have one request answered. Raises BenchError."""
    wire.sendall(request())
    held = b""
    while not held.endswith(CONTENT):
        data = wire.recv(65536)
        if not data:
            raise BenchError("a connection was closed")
        held += data


def warm_up(port: int) -> None:
    """Let the worker take the memory that it needs once."""
    for _ in range(200):
        with connected(port) as wire:
            ask(wire)


def latencies_us(port: int) -> list[float]:
    """Return how long each of many hits took, one after the other on one connection."""
    taken = []
    with connected(port) as wire:
        for _ in range(HITS):
            began_at = time.perf_counter()
            ask(wire)
            taken.append((time.perf_counter() - began_at) * 1e6)
    return taken


def rss_bytes(pid: int) -> int:
    """Return the memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchError as error:
        sys.exit(f"bench: {error}")
