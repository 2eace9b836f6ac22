"""One [app.NAME] of proxy.toml: its processes, their sockets, and their output in proxyd's log."""

import asyncio
import logging
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from proxy.config.backends import App
from proxy.config.routes import ToRoute
from proxy.config.schema import Config
from proxy.observe.logs import relay
from proxy.process import app_start, health, serve_wsgi
from proxy.process.children import Unfit
from proxy.process.hanging import Hanging
from proxy.process.lines import LineSplitter
from proxy.process.places import Places, serials
from proxy.process.privileges import Identity
from proxy.process.recycling import Subject, worn
from proxy.upstream.address import Address, UnixAddress

_READ_BYTES = 64 * 1024
# What is repeated to who asked for a reload that failed: a traceback through Flask has room.
_RECENT_LINES = 100
_POLL_S = 0.02
# How often one that is not ready yet is asked again.
_ASK_S = 0.1
# Serials in the names of sockets have four digits: of so many processes most have ended.
_SERIALS = 10_000

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Running:
    """One process of an application; `serial` is unique among those of this master."""

    serial: int
    address: Address
    began_at: float
    relay: asyncio.Task[None]
    hanging: Hanging


class AppProgram:
    """One process of an application, and its successors (see children.py).

    Each process listens at an address of its own, so that two can be there at a time; `places`
    hears of the one that is ready. `index` counts the processes of the application from 0.
    """

    def __init__(  # noqa: PLR0913
        self,
        name: str,
        app: App,
        index: int,
        *,
        sockets_folder: Path,
        folder: Path,
        identity: Identity | None,
        places: Places,
        leave_s: float,
        for_others: bool = False,
        tells_times: bool = False,
    ) -> None:
        self.name = f"app {name}" if app.processes == 1 else f"app {name} {index + 1}"
        self.key = name
        self.app = app
        self.index = index
        self.start_timeout_s = app.start_timeout
        # What workers call this place; no process listens here.
        self.socket_path = sockets_folder / f"{name}-{index}.sock"
        self._folder = app.directory or folder
        self._identity = identity
        self._places = places
        self._leave_s = leave_s
        self._for_others = for_others
        self._tells_times = tells_times
        self._running: dict[Process, Running] = {}
        self.recent_output: deque[str] = deque(maxlen=_RECENT_LINES)

    @property
    def address(self) -> Address:
        """Where the process listens that was started last."""
        return next(reversed(self._running.values())).address

    async def spawn(self) -> Process:
        """Start the server with the application, as the runtime user, in its folder."""
        app = self.app
        serial = next(serials)
        path = self.socket_path.with_name(f"{self.key}-{self.index}.{serial % _SERIALS}")
        address = app_start.address_of(app, path)
        identity = self._identity
        hanging = Hanging()
        try:
            process = await asyncio.create_subprocess_exec(
                *app_start.arguments(
                    app,
                    address,
                    for_others=self._for_others,
                    report=hanging.descriptor,
                    tells_times=self._tells_times,
                ),
                cwd=self._folder,
                env=app_start.environment(app, address, identity.environment() if identity else {}),
                stdin=PIPE,
                stdout=PIPE,
                stderr=STDOUT,
                start_new_session=True,
                pass_fds=() if app.wsgi is None else (hanging.descriptor,),
                **(identity.process_options() if identity else {}),
            )
        except BaseException:
            hanging.close()
            raise
        hanging.started()
        self._running[process] = Running(
            serial=serial,
            address=address,
            began_at=asyncio.get_running_loop().time(),
            relay=asyncio.create_task(
                self._relay_output(cast("asyncio.StreamReader", process.stdout))
            ),
            hanging=hanging,
        )
        return process

    async def _relay_output(self, stream: asyncio.StreamReader) -> None:
        """Write the process's output to the log, always reading on: it must never have to wait."""
        splitter = LineSplitter()
        while data := await stream.read(_READ_BYTES):
            self._log(splitter.feed(data))
            await asyncio.sleep(0)  # one that floods the log leaves room for the others
        self._log(splitter.finish())

    def _log(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            text = line.decode("utf-8", "backslashreplace")
            self.recent_output.append(text)
            relay(self.name, text)

    async def ready(self, process: Process) -> None:
        """Return when the process answers as it should, and workers know of it."""
        running = self._running[process]
        while not await connects(running.address):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(_POLL_S)
        probe = self.app.readiness or health.AT_START
        mount = self.app.mount or ""
        while await health.complaint(running.address, probe, mount):  # noqa: ASYNC110
            await asyncio.sleep(min(probe.interval_s, _ASK_S))
        self._places.move(self.key, self.index, running.serial, running.address)

    async def failing(self, process: Process) -> Unfit:
        """Return why a process must be replaced; until then it says whether it is ready."""
        running, places = self._running[process], self._places
        wear = await worn(
            self.app,
            Subject(
                pid=process.pid,
                address=running.address,
                began_at=running.began_at,
                served=lambda: places.served(running.serial),
                set_up=lambda up: self._set_up(running.serial, up),
                hanging=running.hanging,
            ),
        )
        return Unfit(
            reason=wear.reason, serves=wear.serves, leave=lambda: self._left(running.serial)
        )

    def _set_up(self, serial: int, up: bool) -> None:
        if up:
            log.info("%s is ready again", self.name)
        else:
            log.warning("%s is not ready: requests go elsewhere if they can", self.name)
        self._places.set_up(self.key, self.index, serial, up)

    async def _left(self, serial: int) -> None:
        try:
            await self._places.left(serial, self._leave_s)
        except TimeoutError:
            log.warning(
                "%s: what its former process still does is cut off after %g s ([timeouts]"
                " shutdown)",
                self.name,
                self._leave_s,
            )

    async def drained(self, process: Process) -> None:
        """Return when the output of the ended process is in the log."""
        running = self._running.pop(process, None)
        if running is None:
            return
        running.hanging.close()
        self._places.forget(running.serial)
        if isinstance(running.address, UnixAddress):
            running.address.path.unlink(missing_ok=True)
        await asyncio.shield(running.relay)

    def advice(self, code: int | None) -> str:
        """Say what to do about an application that did not start."""
        where = f"[app.{self.key}]"
        if code is None:
            return (
                f"look at its output in the log; if it needs longer, raise start_timeout in {where}"
            )
        if code == serve_wsgi.CANNOT_LOAD:
            key = "command" if self.app.wsgi is None else f'wsgi = "{self.app.wsgi}"'
            return f"the log says why; correct it, or {key} in {where}"
        return "its output is in the log"


async def connects(address: Address) -> bool:
    """Whether something listens there."""
    try:
        if isinstance(address, UnixAddress):
            _, writer = await asyncio.open_unix_connection(address.path)
        else:
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True


def programs_of(
    name: str,
    config: Config,
    *,
    sockets_folder: Path,
    identity: Identity | None,
    places: Places,
    for_others: bool = False,
) -> list[AppProgram]:
    """Return the programs that make up one application, one for each of its processes.

    With `for_others`, the workers are another user: `sockets_folder` lets in who may connect.
    """
    app = config.app[name]
    tells_times = any(
        isinstance(route, ToRoute) and route.to == name and route.server_timing
        for route in config.route
    )
    return [
        AppProgram(
            name,
            app,
            index,
            sockets_folder=sockets_folder,
            folder=config.folder,
            identity=identity,
            places=places,
            leave_s=config.timeouts.shutdown,
            for_others=for_others,
            tells_times=tells_times,
        )
        for index in range(app.processes)
    ]
