"""The master: binds the listeners, starts applications and workers, watches them, ends them.

It never touches a request. Order at the start: state folder, listeners, applications, workers; a
client is accepted only when all of them are ready. At the end: workers, applications, files.

    SIGTERM, SIGINT  end now                SIGUSR1  reopen the logs
    SIGQUIT          finish requests, end   SIGHUP   reload (not available yet)
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from proxy.config.schema import Config
from proxy.errors import StartError
from proxy.observe import logs
from proxy.observe.outlet import STDERR
from proxy.process import apps
from proxy.process.announce import announce
from proxy.process.children import Child
from proxy.process.privileges import Identity, give_log, runtime_identity
from proxy.process.sockets import Listeners
from proxy.process.state import State
from proxy.process.workers import WorkerProgram

# "-P" keeps a proxy.py in the working directory from standing in for this package.
WORKER_COMMAND = (sys.executable, "-P", "-m", "proxy.process.worker")
# What a fast end leaves each process: enough to flush a log, too little to notice.
FAST_STOP_S = 3.0

Stop = Literal["fast", "graceful"]

log = logging.getLogger(__name__)


def run(config: Config, worker_command: Sequence[str] = WORKER_COMMAND) -> int:
    """Run the daemon in the foreground until a signal ends it; returns the exit code.

    `worker_command` is for tests. A failed start is told on standard error and returns 1.
    """
    error_log: logs.ErrorLog | None = None
    try:
        identity = runtime_identity(config.server.user, config.server.group)
        _give_logs(config, identity)
        error_log = _open_error_log(config)
        asyncio.run(Master(config, identity, error_log, worker_command).main())
    except StartError as error:
        if config.log.error != "-":
            log.error("cannot start: %s", error)  # noqa: TRY400 - a message, no traceback
        print(f"proxyd cannot start: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    finally:
        if error_log is not None:
            logging.getLogger().removeHandler(error_log)
            error_log.close()
    return 0


def _open_error_log(config: Config) -> logs.ErrorLog:
    path = STDERR if config.log.error == "-" else str(config.log.error)
    try:
        return logs.configure(path, "master", config.log.level)
    except OSError as error:
        raise StartError(f"[log] error: {path} cannot be opened: {error.strerror}") from None


def _give_logs(config: Config, identity: Identity | None) -> None:
    """Let workers write the logs that only root can create."""
    for path in (config.log.access, config.log.error):
        if isinstance(path, Path):
            give_log(path, identity)


class Master:
    """One run of the daemon."""

    def __init__(
        self,
        config: Config,
        identity: Identity | None,
        error_log: logs.ErrorLog,
        worker_command: Sequence[str],
    ) -> None:
        self._config = config
        self._identity = identity
        self._error_log = error_log
        self._worker_command = worker_command
        self._state = State(config.server.state_dir, identity)
        self._listeners = Listeners()
        self._apps: list[Child] = []
        self._workers: list[Child] = []
        self._stop_wish: Stop | None = None
        self._wish_changed = asyncio.Event()

    async def main(self) -> None:
        """Start, wait for a signal, stop; raises StartError."""
        self._hear_signals()
        try:
            self._state.open()
            self._listeners.open(self._config.listen, self._config.server.worker_count())
            await self._until_wish(self._start())
            while self._stop_wish is None:
                await self._wish_changed.wait()
        finally:
            try:
                await self._stop()
            finally:
                self._listeners.close()
                self._state.close()

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._wish, "fast")
        loop.add_signal_handler(signal.SIGINT, self._wish, "fast")
        loop.add_signal_handler(signal.SIGQUIT, self._wish, "graceful")
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        loop.add_signal_handler(
            signal.SIGHUP, log.warning, "reload is not available yet: SIGHUP has no effect"
        )

    def _wish(self, stop: Stop) -> None:
        """Note how to stop; a graceful stop can become a fast one, and never the reverse."""
        if self._stop_wish != "fast":
            self._stop_wish = stop
        self._wish_changed.set()

    def _reopen_logs(self) -> None:
        try:
            _give_logs(self._config, self._identity)
            self._error_log.reopen()
        except (OSError, StartError) as error:
            log.warning("the logs cannot be reopened, the old files go on: %s", error)
        for worker in self._workers:
            worker.send(signal.SIGUSR1)
        log.info("logs reopened")

    async def _until_wish(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, or give it up when a signal wants something else; raises what it raised."""
        task = asyncio.create_task(work)
        before = self._stop_wish
        while not task.done() and self._stop_wish == before:
            self._wish_changed.clear()
            changed = asyncio.create_task(self._wish_changed.wait())
            await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _start(self) -> None:
        """Start the applications, then the workers, and wait until all are ready."""
        config = self._config
        if os.geteuid() == 0 and self._identity is None:
            log.warning(
                "workers and applications run as root: set [server] user to an unprivileged one"
            )
        sockets: dict[str, list[Path]] = {}
        for name, app in config.app.items():
            programs = apps.programs_of(
                name,
                app,
                folder=config.folder,
                sockets_folder=self._state.sockets_folder,
                identity=self._identity,
            )
            sockets[name] = [program.socket_path for program in programs]
            self._apps += [Child(program) for program in programs]
        await _start_all(self._apps)
        self._workers = [
            Child(
                WorkerProgram(
                    number,
                    self._worker_command,
                    config=config.source.file,
                    listeners=self._listeners.of_worker(number),
                    apps=sockets,
                    identity=self._identity,
                )
            )
            for number in range(config.server.worker_count())
        ]
        await _start_all(self._workers)
        for child in [*self._apps, *self._workers]:
            child.watch()
        announce(config, self._listeners.urls(), self._apps, self._workers)

    async def _stop(self) -> None:
        """End every process: workers first, for their requests need the applications."""
        if self._stop_wish == "graceful":
            grace_s = self._config.timeouts.shutdown
            log.info("ending, with up to %g s for requests in progress", grace_s)
            await self._until_wish(_stop_all(self._workers, signal.SIGQUIT, grace_s))
        await _stop_all(self._workers, signal.SIGTERM, FAST_STOP_S)
        await _stop_all(self._apps, signal.SIGTERM, FAST_STOP_S)


async def _start_all(children: Iterable[Child]) -> None:
    """Start children side by side; raises the first StartError, the others given up."""
    try:
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(child.start())
    except* StartError as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[StartError]) -> StartError:
    first = errors.exceptions[0]
    return first if isinstance(first, StartError) else _first(first)


async def _stop_all(children: Iterable[Child], number: signal.Signals, grace_s: float) -> None:
    await asyncio.gather(*(child.stop(number, grace_s) for child in children))
