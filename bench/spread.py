"""How connections and work are spread over two workers, and what that makes of their throughput.

    python -m bench.spread [SECONDS]

Of a socket for each worker (SO_REUSEPORT) and of one that both accept from. "times one worker" is
by CPU time: requests for each second of the busier worker, beside those of a single one, which is
what the clock would show if every process had a core of its own. Linux only; needs wrk.
"""

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.cpu import cpu_s
from bench.engines.engine import require
from bench.errors import BenchError, SkipError
from bench.workers import CONTENT, TARGET, request, serving
from proxy.lab.services import HOST

SECONDS = 5
IDLE = 400
CLIENTS = 256
PATIENCE_S = 60.0


def main(arguments: list[str]) -> int:
    """Measure and print."""
    seconds = int(arguments[0]) if arguments else SECONDS
    wrk = require("wrk", "wrk")
    single = 0.0
    for name, workers, shared in (
        ("one worker", 1, False),
        ("two, a socket for each", 2, False),
        ("two, one socket", 2, True),
    ):
        counts, requests, cpu = measured(wrk, workers, seconds, shared=shared)
        capacity = requests / max(cpu)
        single = single or capacity
        shares = " + ".join(f"{used / sum(cpu):.0%}" for used in cpu)
        print(
            f"{name:24} {IDLE} connections: {' + '.join(map(str, counts)):11}"
            f" CPU of {CLIENTS} busy ones: {shares:11} {capacity / single:.2f} times one worker"
        )
    return 0


def measured(
    wrk: str, workers: int, seconds: int, *, shared: bool
) -> tuple[list[int], int, list[float]]:
    """Return the connections of each worker, the requests of a load, and the CPU of each."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port, pids = stack.enter_context(serving(folder, workers, shared=shared))
        before = [files(pid) for pid in pids]
        with ExitStack() as held:
            for _ in range(IDLE):
                ask(held.enter_context(socket.create_connection((HOST, port), PATIENCE_S)))
            counts = [files(pid) - then for pid, then in zip(pids, before, strict=True)]
        used = [cpu_s(pid) for pid in pids]
        requests = load(wrk, port, seconds)
        cpu = [cpu_s(pid) - then for pid, then in zip(pids, used, strict=True)]
    return counts, requests, cpu


def ask(wire: socket.socket) -> None:
    """Have one request answered. Raises BenchError."""
    wire.sendall(request())
    held = b""
    while not held.endswith(CONTENT):
        data = wire.recv(65536)
        if not data:
            raise BenchError("a connection was closed")
        held += data


def files(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def load(wrk: str, port: int, seconds: int) -> int:
    """Load a server and return how often it answered. Raises BenchError."""
    told = subprocess.run(
        [wrk, "-t1", f"-c{CLIENTS}", f"-d{seconds}s", f"http://127.0.0.1:{port}{TARGET}"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for line in told.splitlines():
        if " requests in " in line:
            return int(line.split()[0])
    raise BenchError(f"wrk did not come to a result:\n{told}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SkipError as reason:
        print(f"skipped: {reason}")
    except BenchError as error:
        sys.exit(f"bench: {error}")
