"""The CPU time of other processes, and who runs on which CPU. Linux only."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError

# <linux/posix-timers.h>: the clock of a process, all its threads together, counted in nanoseconds.
# /proc/PID/stat counts in ticks of 10 ms, /proc/PID/schedstat the first thread only.
_CPUCLOCK_SCHED = 2


def cpu_s(pid: int) -> float:
    """Return how much CPU a process has used, user and system. clock_getcpuclockid(3).

    Raises BenchError when it has ended.
    """
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        raise BenchError(f"process {pid} ended while it was measured") from None


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, whichever of its threads started them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def only_child(pid: int) -> int:
    """Return the one child of a master with one worker. Raises BenchError."""
    found = children(pid)
    if len(found) != 1:
        raise BenchError(f"process {pid} has {len(found)} children where one worker was expected")
    return found[0]


def share_out() -> tuple[set[int], set[int]]:
    """Return the CPUs of the server under test, and those of everything else.

    One CPU has to do for both where there is no other.
    """
    cpus = sorted(os.sched_getaffinity(0))
    return {cpus[-1]}, set(cpus[:-1] or cpus)


@contextmanager
def on_cpus(cpus: set[int]) -> Iterator[None]:
    """Let this process, and what it starts meanwhile, run on `cpus` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
