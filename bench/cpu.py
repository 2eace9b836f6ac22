"""The CPU time of other processes, and who runs on which CPU. Linux only.

Which processes a server has is known to the lab; what they use is read here from clocks that count
in nanoseconds, since a job of three seconds is divided by tens of thousands of requests.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil

from bench.errors import BenchError
from proxy.lab import usage

# <linux/posix-timers.h>: the clock of a process, all its threads together, counted in nanoseconds.
# /proc/PID/stat counts in ticks of 10 ms, /proc/PID/schedstat the first thread only.
_CPUCLOCK_SCHED = 2
IDLE_TIMEOUT_S = 15.0
IDLE_LOOK_S = 0.5
IDLE_SHARE = 0.02


def cpu_s(pid: int) -> float:
    """Return how much CPU a process has used, user and system. clock_getcpuclockid(3).

    Raises BenchError when it has ended.
    """
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        raise BenchError(f"process {pid} ended while it was measured") from None


def used_s(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return how much CPU a server used between two of its `family` times.

    Raises BenchError when one of its processes ended meanwhile.
    """
    for pid in before.keys() - after.keys():
        raise BenchError(f"process {pid} ended while it was measured")
    return sum(after.values()) - sum(before.values())


def family(roots: Sequence[int]) -> dict[int, float]:
    """Return the CPU time of a server's processes, by pid. Raises BenchError.

    So that what a cache does in processes of its own is not free. All but nginx's cache loader,
    which ends after its minute and finds nothing to load.
    """
    found: dict[int, float] = {}
    for root in roots:
        processes = usage.family(root)
        if not processes:
            raise BenchError(f"process {root} ended while it was measured")
        found |= {one.pid: cpu_s(one.pid) for one in processes if not is_loader(one)}
    return found


def wait_until_idle(roots: Sequence[int], timeout_s: float = IDLE_TIMEOUT_S) -> None:
    """Return when a server has nothing to do any more: starting is no part of a request.

    proxyd's control process imports for a second beside the first requests. A server that never
    rests is measured as it is. Raises BenchError.
    """
    deadline = time.monotonic() + timeout_s
    before = family(roots)
    while time.monotonic() < deadline:
        time.sleep(IDLE_LOOK_S)
        now = family(roots)
        if now.keys() == before.keys() and used_s(before, now) < IDLE_SHARE * IDLE_LOOK_S:
            return
        before = now


def is_loader(process: psutil.Process) -> bool:
    """Say whether a process is nginx's cache loader, by the title that it gives itself."""
    try:
        return "cache loader" in " ".join(process.cmdline())
    except psutil.Error:
        return False


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
