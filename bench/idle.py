"""What idle keep-alive connections cost one worker: memory for each, and how fast hits are beside.

    python -m bench.idle [CONNECTIONS] [--json FILE] [--keep [FOLDER]]

Each connection, 10,000 unless told, has had one answer before it is idle; the lab's generator holds
them, and asks at a constant rate beside them and without them. Linux only.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
from rich.console import Console

from bench.errors import BenchError
from bench.history import RESULTS
from bench.options import hand_over, outlets, positive
from bench.workers import CONTENT, request, serving
from proxy.errors import LabError
from proxy.lab.generator import Generator
from proxy.lab.load_job import GOOD, Ask, Crowd, LoadJob
from proxy.lab.run import allow_files
from proxy.lab.services import HOST
from proxy.lab.visit import latencies, listed, percentile

CONNECTIONS = 10_000
WARM = 200
# The visitor: requests per second, on so many connections at most.
RATE, VISITORS, SECONDS = 500.0, 16, 4.0
# Connections that a worker must take beside those that are counted.
MORE = 128
TIMEOUT_S = 60.0
AIM_KB = 10.0
ASK = Ask(head=request(), body=CONTENT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = parser().parse_args(arguments)
    console = Console()
    try:
        found = measured(options.connections)
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    console.print(
        f"memory for each of {options.connections:,} connections: {found['connection_kb']:.1f} KB"
        f" (aim {AIM_KB:g}), of a worker of {found['worker_kb'] / 1000:.0f} MB",
        highlight=False,
    )
    for where, name in (("alone", "alone"), ("beside them", "beside")):
        p50_us, p99_us = found[f"{name}_p50_ms"] * 1000, found[f"{name}_p99_ms"] * 1000
        told = f"a request {where}: median {p50_us:.0f} µs, 99 of 100 within {p99_us:.0f} µs"
        console.print(told, highlight=False)
    hand_over(console, options, found)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m bench.idle", description="Idle connections.")
    made.add_argument("connections", type=positive, nargs="?", default=CONNECTIONS)
    outlets(made, RESULTS / "idle")
    return made


def measured(connections: int) -> dict[str, float]:
    """Return the figures, in KB and ms. Raises BenchError, LabError."""
    allow_files()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        site = serving(folder, 1, connections=max(connections, WARM) + MORE)
        port, (pid,) = stack.enter_context(site)
        generator = stack.enter_context(Generator(dict(os.environ)))
        worker = psutil.Process(pid)
        settled_bytes: list[int] = []

        def ready(_: int) -> None:
            settled_bytes.append(worker.memory_info().rss)

        visited(generator, port, WARM)  # so that the worker has what it needs once
        alone = visited(generator, port, 0)
        before_bytes = worker.memory_info().rss
        beside = visited(generator, port, connections, ready)
    return {
        "connections": connections,
        "connection_kb": round((settled_bytes[0] - before_bytes) / connections / 1000, 3),
        "worker_kb": round(before_bytes / 1000),
        "alone_p50_ms": round(percentile(alone, 50), 4),
        "alone_p99_ms": round(percentile(alone, 99), 4),
        "beside_p50_ms": round(percentile(beside, 50), 4),
        "beside_p99_ms": round(percentile(beside, 99), 4),
    }


def visited(
    generator: Generator, port: int, idle: int, ready: Callable[[int], None] | None = None
) -> list[float]:
    """Return what a visitor waited beside so many idle connections, in ms and order of that.

    Raises BenchError unless all of them stayed, and every answer was right.
    """
    job = LoadJob(
        host=HOST,
        port=port,
        duration_s=SECONDS,
        timeout_s=TIMEOUT_S,
        crowds=[
            Crowd(kind="idle", ask=ASK, count=idle),
            Crowd(kind="open", ask=ASK, count=VISITORS, rate=RATE, exact=True),
        ],
    )
    held, visitor = generator.run(job, ready).crowds
    if held.connected != idle:
        raise BenchError(f"of {idle:,} connections {held.connected:,} stayed open")
    if visitor.answers.keys() != {GOOD}:
        raise BenchError(f"the visitor got {listed(Counter(visitor.answers))}")
    return sorted(latencies(visitor.visits))


if __name__ == "__main__":
    sys.exit(main())
