"""One configuration at work: its applications and its workers, made whole or not at all.

    start() ──▶ ready ── accept() ──▶ serves ── end() ──▶ drains ──▶ gone
       └──▶ StartError: nothing of it is left

A reload starts a second generation beside the one that serves, and only then lets it accept. Each
has a folder of its own for the sockets of its applications, so both can live side by side.
"""

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import Any, Literal

from proxy.config.schema import Config
from proxy.errors import StartError
from proxy.process import apps
from proxy.process.apps import AppProgram
from proxy.process.certificates import Certificates
from proxy.process.children import Child
from proxy.process.control_program import ControlProgram
from proxy.process.health import check_health
from proxy.process.keepers import KeeperProgram
from proxy.process.listeners import Listeners
from proxy.process.places import Places
from proxy.process.privileges import Identity, make_folder, runtime_identity
from proxy.process.workers import WorkerProgram
from proxy.protocol.ticket_keys import TicketSecret

Stop = Literal["fast", "graceful"]
Tell = Callable[[str], None]

# What a fast end leaves each process: enough to flush a log, too little to notice.
FAST_STOP_S = 3.0
# What a worker gets beyond `shutdown`: it cuts its requests off by itself, and logs them.
CUT_OFF_S = 2.0

log = logging.getLogger(__name__)


class Generation:
    """The processes of one configuration; `number` counts from 1 over reloads and upgrades."""

    def __init__(  # noqa: PLR0913
        self,
        number: int,
        config: Config,
        listeners: Listeners,
        *,
        folder: Path,
        identity: Identity | None,
        worker_command: Sequence[str],
        ticket_secret: TicketSecret,
        attend: Callable[[socket], None],
    ) -> None:
        self.number = number
        self.config = config
        self.listeners = listeners
        self.apps: list[Child] = []
        self.workers: list[Child] = []
        self.keepers: list[Child] = []
        self._programs: list[AppProgram] = []
        self._worker_programs: list[WorkerProgram] = []
        self._places = Places()
        self._certificates = Certificates(config, ticket_secret)
        self._watching: asyncio.Task[None] | None = None
        self._folder = folder
        self._folders = [folder]
        self._identity = identity
        self._worker_command = worker_command
        self._attend = attend

    @property
    def children(self) -> list[Child]:
        """Every process."""
        return [*self.apps, *self.workers, *self.keepers]

    @property
    def certificates(self) -> list[dict[str, object]]:
        """What its listeners serve; see `Certificates.describe`."""
        return self._certificates.describe()

    async def start(self, tell: Tell, *, healthy: bool = False) -> None:
        """Start the applications, then the workers; return when all are ready, and none accepts.

        With `healthy`, each application must answer a request as well. Raises StartError, with the
        output of the application that failed; then, as after a cancellation, everything is ended.
        """
        try:
            self._certificates.load()
            make_folder(self._folder, 0o700, self._identity)
            await self._start_apps(tell, healthy)
            self._make_cache_folder()
            self._make_control()
            await self._start_workers(tell)
            await self._start_keepers()
        except BaseException:
            await self.end("fast")
            raise

    def _make_cache_folder(self) -> None:
        """Make the folder of the cache, and its keeper where it is on disk."""
        config = self.config
        if not config.uses_cache:
            return
        folder = config.cache_folder
        make_folder(folder, 0o700, self._identity)
        if config.cache.disk:
            program = KeeperProgram(config, folder, config.cache.disk, identity=self._identity)
            self.keepers = [Child(program)]

    async def _start_keepers(self) -> None:
        """Start what nobody's request waits for; who does not start is tried again."""
        for keeper in self.keepers:
            try:
                await keeper.start()
            except StartError as error:
                log.error("%s", error)  # noqa: TRY400 - its traceback says nothing to a person

    def _make_control(self) -> None:
        """Make the process that answers on [control], unless that is off; raises StartError."""
        sockets = self.listeners.of_control()
        if not sockets:
            return
        program = ControlProgram(
            self.config, sockets, self._folder, identity=self._identity, attend=self._attend
        )
        self.keepers.append(Child(program))

    async def _start_apps(self, tell: Tell, healthy: bool) -> None:
        config = self.config
        for name, app in config.app.items():
            own = runtime_identity(app.user, app.group, f"[app.{name}]")
            folder = self._folder
            if own is not None and own != self._identity:
                folder = self._make_folder_of(own)
            self._programs += apps.programs_of(
                name,
                config,
                sockets_folder=folder,
                identity=own or self._identity,
                places=self._places,
                for_others=folder != self._folder,
            )
        self.apps = [Child(program) for program in self._programs]
        if not self.apps:
            return
        tell(f"starting {_names(self.apps)}")

        async def start(child: Child, program: AppProgram) -> None:
            try:
                await child.start()
                if healthy and program.app.readiness is None:
                    await check_health(program.name, program.address, program.app.mount or "")
            except StartError:
                for line in program.recent_output:
                    tell(f"{program.name}: {line}")
                raise

        await _all(map(start, self.apps, self._programs))

    def _make_folder_of(self, identity: Identity) -> Path:
        """Make a folder for the sockets of an application that is not who the workers are.

        It may write there, the workers' group may enter, to connect. Raises StartError.
        """
        folder = self._folder.with_name(f"{self._folder.name}.{len(self._folders)}")
        workers_gid = self._identity.gid if self._identity else os.getegid()
        make_folder(folder, 0o710, replace(identity, gid=workers_gid))
        self._folders.append(folder)
        return folder

    async def _start_workers(self, tell: Tell) -> None:
        sockets: dict[str, list[Path]] = {name: [] for name in self.config.app}
        for program in self._programs:
            sockets[program.key].append(program.socket_path)
        count = self.config.server.worker_count()
        siblings = [self._folder / f"{number + 1}.sock" for number in range(count)]
        self._worker_programs = [
            WorkerProgram(
                number,
                self._worker_command,
                config=self.config,
                listeners=self.listeners.of_worker(number),
                apps=sockets,
                siblings=siblings,
                places=self._places,
                certificates=self._certificates,
                identity=self._identity,
            )
            for number in range(count)
        ]
        self.workers = [Child(program) for program in self._worker_programs]
        tell(f"starting {_names(self.workers)}")
        await _all(child.start() for child in self.workers)

    def accept(self) -> None:
        """Let the workers accept, and replace from now on what dies."""
        for child in self.children:
            child.watch()
        for program in self._worker_programs:
            program.accept()
        self._watching = asyncio.create_task(self._certificates.watch(self._renew_certificates))

    def _renew_certificates(self) -> None:
        for program in self._worker_programs:
            program.renew_certificates()

    async def end(self, stop: Stop) -> None:
        """End every process: workers first, for their requests need the applications.

        May be called again with "fast" while a graceful end takes its time.
        """
        if self._watching is not None:
            self._watching.cancel()
        await _stop_all(self.keepers, signal.SIGTERM, FAST_STOP_S)  # the next one waits for them
        if stop == "graceful":
            grace_s = self.config.timeouts.shutdown + CUT_OFF_S
            await _stop_all(self.workers, signal.SIGQUIT, grace_s)
        await _stop_all(self.workers, signal.SIGTERM, FAST_STOP_S)
        await _stop_all(self.apps, signal.SIGTERM, FAST_STOP_S)
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def _names(children: Sequence[Child]) -> str:
    return ", ".join(child.program.name for child in children)


async def _all(starts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Start children side by side; raises the first StartError, the others given up."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as errors:  # what `except*` raises is a group before Python 3.11.4
        failed, others = errors.split(StartError)
        if failed is None or others is not None:
            raise
        raise _first(failed) from None


def _first(errors: BaseExceptionGroup[StartError]) -> StartError:
    first = errors.exceptions[0]
    return first if isinstance(first, StartError) else _first(first)


async def _stop_all(children: Iterable[Child], number: signal.Signals, grace_s: float) -> None:
    await asyncio.gather(*(child.stop(number, grace_s) for child in children))
