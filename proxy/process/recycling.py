"""When a process of an application that runs must be replaced.

By age, requests, memory, liveness, and requests that hang. Those that only grew old serve on until
a successor is ready; one that does not answer goes in any case. Whether a process is to get
requests at all (`readiness`) is asked here as well.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from proxy.config.backends import App
from proxy.config.upstreams import Probe
from proxy.process.hanging import Hanging
from proxy.process.health import complaint
from proxy.rules.health import Thresholds
from proxy.upstream.address import Address

# Processes that were started together shall not be replaced together. Precedent: gunicorn has
# `max_requests_jitter`, off by default.
JITTER = 0.1
# Workers tell their numbers every second.
COUNT_S = 1.0
MEMORY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wear:
    """What to say of a process that must be replaced; `serves` when it still does its work."""

    reason: str
    serves: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The process that is looked at; `set_up` hears whether it is to get requests."""

    pid: int
    address: Address
    began_at: float
    served: Callable[[], int]
    set_up: Callable[[bool], None]
    hanging: Hanging


async def worn(app: App, subject: Subject) -> Wear:
    """Return why the process must be replaced; never while it need not."""
    looks: list[Coroutine[Any, Any, Wear]] = []
    if app.max_age is not None:
        looks.append(_too_old(less(app.max_age), subject))
    if app.max_requests is not None:
        looks.append(_too_many_requests(less(app.max_requests), subject))
    if app.max_memory is not None:
        looks.append(_too_large(app.max_memory, subject))
    if app.liveness is not None:
        looks.append(_dead(app.liveness, app.mount or "", subject))
    if app.readiness is not None:
        looks.append(_keep_asking(app.readiness, app.mount or "", subject))
    looks.append(_too_many_hang(app.stuck_threads, subject))
    tasks = [asyncio.ensure_future(look) for look in looks]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return done.pop().result()


def less(limit: float) -> float:
    """Return a limit, less up to a tenth."""
    return limit * random.uniform(1 - JITTER, 1)  # noqa: S311 - no secret


def tree_bytes(pid: int) -> int:
    """Return the memory (RSS) of a process and its descendants; 0 when it is gone."""
    import psutil  # only for an application that has `max_memory`

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for each in family:
        try:
            total += each.memory_info().rss
        except psutil.Error:  # gone meanwhile
            continue
    return total


async def _too_old(limit_s: float, subject: Subject) -> Wear:
    await asyncio.sleep(subject.began_at + limit_s - asyncio.get_running_loop().time())
    return Wear(reason=f"it has run for {limit_s:.3g} s (max_age)")


async def _too_many_requests(limit: float, subject: Subject) -> Wear:
    while subject.served() < limit:  # noqa: ASYNC110 - workers tell it every second
        await asyncio.sleep(COUNT_S)
    return Wear(reason=f"it has answered {subject.served()} requests (max_requests)")


async def _too_large(limit_bytes: int, subject: Subject) -> Wear:
    while (found_bytes := tree_bytes(subject.pid)) <= limit_bytes:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(MEMORY_S)
    return Wear(reason=f"it uses {found_bytes / 2**20:.1f} MiB of memory (max_memory)")


async def _dead(probe: Probe, mount: str, subject: Subject) -> Wear:
    failures = 0
    while True:
        await asyncio.sleep(less(probe.interval_s))
        text = await complaint(subject.address, probe, mount)
        failures = failures + 1 if text else 0
        if failures >= probe.fall:
            return Wear(reason=f"it {text}, {failures} times (liveness)", serves=False)


async def _keep_asking(probe: Probe, mount: str, subject: Subject) -> Wear:
    """Say on and on whether the process is ready; it was, once."""
    thresholds = Thresholds(probe.rise, probe.fall)
    thresholds.note(True)
    while True:
        await asyncio.sleep(less(probe.interval_s))
        if thresholds.note(not await complaint(subject.address, probe, mount)):
            subject.set_up(thresholds.up)


async def _too_many_hang(limit: int, subject: Subject) -> Wear:
    count = await subject.hanging.at_least(limit)
    return Wear(reason=f"{count} of its requests hang (stuck_threads)")
