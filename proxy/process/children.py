"""One supervised process: started, waited for until it is ready, started again when it dies, ended.

        start()              watch()                      stop()
    ──▶ spawned ──▶ ready ──▶ runs ──▶ died ──▶ back-off ──▶ spawned …     ──▶ signal ──▶ killed
            │                   ├──▶ hangs ──▶ killed ──▶ back-off …
            │                   └──▶ unfit ──▶ back-off ──▶ a successor is ready ──▶ left ──▶ signal
            └──────────▶ StartError (at the start), or logged and tried again (later)

What is run, and what "ready" means, is a `Program`'s business (apps.py, workers.py). Each child
leads a session of its own: Ctrl-C reaches the master only, and what a child started ends with it.
"""

import asyncio
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, final

from proxy.errors import StartError

# As systemd's RestartSec of 0.1 s; doubled, so that what is broken does not keep the machine busy.
BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 10.0
# Who lived ten times as long as it would now wait costs little: then as after the first death.
BACKOFF_FORGIVEN_S = 30.0
BACKOFF_FORGIVEN_TIMES = 10
# What a process that was killed may take to be gone, and its output to be read to the end.
KILL_S = 5.0
DRAIN_S = 1.0

# What a process that nobody uses any more gets for its own way to end.
LEAVE_S = 5.0

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Why a process that runs must be replaced.

    Without `leave` it hangs, and is killed before another one is started. With it, a successor is
    ready first; `leave` then returns when nobody uses the former any more, or at a limit of its
    own. One that still `serves` stays when no successor can be started.
    """

    reason: str
    leave: Callable[[], Awaitable[None]] | None = None
    serves: bool = False


class Program(Protocol):
    """What one child runs."""

    name: str
    start_timeout_s: float

    async def spawn(self) -> Process:
        """Start a process in a session of its own; its standard input is the life line."""

    async def ready(self, process: Process) -> None:
        """Return when the process does its work; never when it will not."""

    async def failing(self, process: Process) -> Unfit:
        """Return why a process that runs must be replaced; never while it need not."""

    async def drained(self, process: Process) -> None:
        """Return when all that the ended process wrote is in the log."""

    def advice(self, code: int | None) -> str:
        """Say what a person can do about a failed start; `code` is None when it took too long."""


class Backoff:
    """How long to wait before the next start; it grows with each early death."""

    __slots__ = ("_next_s",)

    def __init__(self) -> None:
        self._next_s = BACKOFF_FIRST_S

    def after(self, lived_s: float) -> float:
        """Return the seconds to wait after a process that lived so long."""
        if lived_s >= min(BACKOFF_FORGIVEN_TIMES * self._next_s, BACKOFF_FORGIVEN_S):
            self._next_s = BACKOFF_FIRST_S
        delay_s = self._next_s
        self._next_s = min(delay_s * 2, BACKOFF_MOST_S)
        return delay_s


class Child:
    """One process of a program, and its successors."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.restarts = 0
        self._process: Process | None = None
        self._starting: Process | None = None
        self._former: Process | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._began_at = 0.0

    @property
    def pid(self) -> int | None:
        """The pid of the process that runs now, if one does."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def age_s(self) -> float:
        """How long ago the process that runs now was started, in seconds."""
        return asyncio.get_running_loop().time() - self._began_at

    @property
    def pids(self) -> set[int]:
        """The pids of all its processes, the one that starts and the one that leaves as well."""
        processes = (self._starting, self._process, self._former)
        return {each.pid for each in processes if each is not None and each.returncode is None}

    async def start(self) -> None:
        """Start the process and wait until it is ready; raises StartError, and then it is gone."""
        self._process, self._began_at = await self._launch()

    async def _launch(self) -> tuple[Process, float]:
        """Return a new process that is ready, and when it was started; raises StartError."""
        program = self.program
        began_at = asyncio.get_running_loop().time()
        try:
            self._starting = process = await program.spawn()
        except OSError as error:
            raise StartError(f"{program.name} cannot be started: {error}") from error
        ended = asyncio.ensure_future(process.wait())
        ready = asyncio.ensure_future(program.ready(process))
        try:
            await asyncio.wait(
                {ended, ready},
                timeout=program.start_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            await self._end(process, signal.SIGKILL, 0)
            raise
        finally:
            ended.cancel()
            ready.cancel()
        if process.returncode is None and ready.done():
            return process, began_at
        code = process.returncode
        await self._end(process, signal.SIGKILL, 0)
        if code is None:
            reason = f"was not ready within {program.start_timeout_s:g} s"
        else:
            reason = f"ended at its start: {reason_of(code)}"
        raise StartError(f"{program.name} {reason}; {program.advice(code)}")

    def watch(self) -> None:
        """From now on, start the process again when it ends."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")

    async def _keep(self) -> None:
        backoff = Backoff()
        name = self.program.name
        loop = asyncio.get_running_loop()
        while True:
            process = self._process
            if process is not None:
                unfit = await self._until_end(process)
                if unfit is not None and unfit.leave is not None:
                    await _ended(process, backoff.after(loop.time() - self._began_at))
                    if await self._succeed(process, unfit.leave):
                        continue
                    if unfit.serves and process.returncode is None:
                        continue
                await self._end(process, signal.SIGKILL, 0)
                self._tell_end(process)
                self._process = None
            delay_s = backoff.after(loop.time() - self._began_at)
            log.info("%s starts again in %.1f s", name, delay_s)
            await asyncio.sleep(delay_s)
            self.restarts += 1
            self._began_at = loop.time()
            try:
                await self.start()
            except StartError as error:
                log.error("%s", error)  # noqa: TRY400 - its traceback says nothing to a person
            else:
                log.info("%s runs again (pid %d)", name, self.pid)

    def _tell_end(self, process: Process) -> None:
        if process.returncode is not None:
            reason = reason_of(process.returncode)
            log.error("%s (pid %d) ended: %s", self.program.name, process.pid, reason)

    async def _until_end(self, process: Process) -> Unfit | None:
        """Return when the process has ended, or must be, and why."""
        ended = asyncio.ensure_future(process.wait())
        failing = asyncio.ensure_future(self.program.failing(process))
        try:
            await asyncio.wait({ended, failing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            failing.cancel()
        if process.returncode is not None:
            return None
        unfit = failing.result()
        level = logging.INFO if unfit.serves else logging.ERROR
        log.log(level, "%s (pid %d) is replaced: %s", self.program.name, process.pid, unfit.reason)
        return unfit

    async def _succeed(self, process: Process, leave: Callable[[], Awaitable[None]]) -> bool:
        """Put a successor in the place of a process, which then ends in its own time.

        Returns False, and everything is as before, when none can be started.
        """
        if self._leaving is not None:  # never more than two processes beside a starting one
            await asyncio.wait({self._leaving})
        try:
            successor, began_at = await self._launch()
        except StartError as error:
            log.error("%s", error)  # noqa: TRY400 - its traceback says nothing to a person
            return False
        self.restarts += 1
        self._process, self._began_at, self._former = successor, began_at, process
        log.info("%s has a new process (pid %d)", self.program.name, successor.pid)
        self._leaving = asyncio.create_task(self._retire(process, leave))
        return True

    async def _retire(self, process: Process, leave: Callable[[], Awaitable[None]]) -> None:
        if process.returncode is None:
            await leave()
        else:
            self._tell_end(process)
        await self._end(process, signal.SIGTERM, LEAVE_S)
        self._former = None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, number: signal.Signals, grace_s: float) -> None:
        """End the process for good: ask with a signal, kill it `grace_s` seconds later.

        May be called again while it waits, to be less patient.
        """
        for task in (self._keeper, self._leaving):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._keeper = self._leaving = None
        processes = [each for each in (self._process, self._former) if each is not None]
        await asyncio.gather(*(self._end(process, number, grace_s) for process in processes))

    async def _end(self, process: Process, number: signal.Signals, grace_s: float) -> None:
        """End a process and all of its group, and wait until its output is read."""
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                await asyncio.wait_for(process.wait(), grace_s if grace_s > 0 else KILL_S)
            except TimeoutError:
                log.warning("%s did not end within %g s and is killed", self.program.name, grace_s)
        _kill_group(process.pid)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), KILL_S)
        if process.stdin is not None:
            process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.program.drained(process), DRAIN_S)


async def _ended(process: Process, limit_s: float) -> None:
    """Return when a process has ended, at the latest after a time."""
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), limit_s)


def _kill_group(pid: int) -> None:
    """Kill a process and what it left behind; its group exists as long as one of them does."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def reason_of(code: int) -> str:
    """Say how a process ended."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
