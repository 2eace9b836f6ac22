"""The master: binds the listeners, keeps one generation of processes serving, replaces it, ends it.

It never touches a request. Order at the start: state folder, listeners, applications, workers; a
client is accepted only when all of them are ready. At the end: workers, applications, files.

    SIGTERM, SIGINT  end now                SIGHUP   reload
    SIGQUIT          finish requests, end   SIGUSR1  reopen the logs
                                            SIGUSR2  hand over to a new master (upgrade.py)

`proxyd reload`, `upgrade`, `stop` and `status` come through the control socket and wait for the
outcome.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from proxy.config.load import load
from proxy.config.schema import Config
from proxy.errors import CommandError, ProxydError, StartError
from proxy.observe import logs
from proxy.process.announce import announce
from proxy.process.changes import Changes
from proxy.process.control_socket import ControlSocket, Outcome
from proxy.process.generation import Generation, Stop, Tell
from proxy.process.listeners import Bound, Listeners
from proxy.process.log_files import give_logs, open_error_log
from proxy.process.notify import Notifier
from proxy.process.orphans import reap_orphans
from proxy.process.privileges import Identity
from proxy.process.state import State
from proxy.process.status import status_of
from proxy.process.upgrade import Inheritance, start_successor
from proxy.protocol.ticket_keys import TicketSecret

# Old generations that may finish requests at once; past it the oldest is cut off. A stream keeps
# one alive for all of `shutdown`, however often somebody reloads.
DRAINING_GENERATIONS = 4

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Master:
    """One run of the daemon."""

    _generation: Generation  # the one that serves, or is about to
    _watch: bool
    _began_ns: int

    def __init__(
        self,
        config: Config,
        identity: Identity | None,
        error_log: logs.ErrorLog,
        worker_command: Sequence[str],
        held: Sequence[Bound],
    ) -> None:
        self._config = config
        # What another master, or systemd, has a claim on: its sockets' files stay.
        self._shared = held
        self._identity = identity
        self._error_log = error_log
        self._worker_command = worker_command
        self._ticket_secret = TicketSecret.new(time.time())
        self._notifier = Notifier(os.environ)
        self._state = State(config.server.state_dir, identity)
        self._draining: dict[Generation, asyncio.Task[None]] = {}
        self._control = ControlSocket(
            config.server.state_dir,
            {
                "reload": partial(self._asked, self.reload),
                "upgrade": partial(self._asked, self.upgrade),
                "status": self._status,
                "stop": partial(self._stop_asked, "graceful"),
                "stop now": partial(self._stop_asked, "fast"),
            },
        )
        self._changing = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._signalled: list[asyncio.Task[Outcome]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stop_wish: Stop | None = None
        self._wish_changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._began_at = time.monotonic()

    async def main(self, inheritance: Inheritance | None, *, watch: bool) -> None:
        """Start, wait for a signal, stop; raises StartError."""
        self._hear_signals()
        self._watch = watch
        self._began_ns = time.time_ns()
        try:
            self._state.open(inheritance.lock if inheritance else None)
            number = 1
            if inheritance is not None:
                number = inheritance.number
                self._ticket_secret = inheritance.ticket_secret
            self._generation = self._new_generation(number, self._config)
            await self._serve(inheritance)
        finally:
            self._state.close()
            self._ended.set()
            await self._control.close()

    async def _serve(self, inheritance: Inheritance | None) -> None:
        try:
            await self._until_wish(self._start(inheritance))
            if os.getpid() == 1:
                self._begin(reap_orphans(self._pids))
            self._begin(self._notifier.stay_awake())
            self._mind_changes()
            while self._stop_wish is None:
                await self._wish_changed.wait()
        finally:
            if self._state.owner:
                self._notifier.stopping()
            try:
                await self._stop()
            finally:
                self._generation.listeners.close(but=self._shared)

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._wish, "fast")
        loop.add_signal_handler(signal.SIGINT, self._wish, "fast")
        loop.add_signal_handler(signal.SIGQUIT, self._wish, "graceful")
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        loop.add_signal_handler(signal.SIGHUP, self._change, self.reload)
        loop.add_signal_handler(signal.SIGUSR2, self._change, self.upgrade)

    def _wish(self, stop: Stop) -> None:
        """Note how to stop; a graceful stop can become a fast one, and never the reverse."""
        if self._stop_wish != "fast":
            self._stop_wish = stop
        self._wish_changed.set()

    def _change(self, change: Callable[[Tell], Coroutine[Any, Any, Outcome]]) -> None:
        """Do as a signal says; what waits for its turn already does it for this one as well."""
        self._signalled = [task for task in self._signalled if not task.done()]
        if len(self._signalled) < 2:
            self._signalled.append(self._begin(change(ignore)))

    def _begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Do something beside the rest; a stop ends it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ProxydError):  # those are in the log
            log.error("the master failed", exc_info=error)

    def _reopen_logs(self) -> None:
        try:
            give_logs(self._generation.config, self._identity)
            self._error_log.reopen()
        except (OSError, StartError) as error:
            log.warning("the logs cannot be reopened, the old files go on: %s", error)
        for generation in [self._generation, *self._draining]:
            for child in [*generation.workers, *generation.keepers]:
                child.send(signal.SIGUSR1)
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

    async def _start(self, inheritance: Inheritance | None) -> None:
        """Bind the listeners, start the first generation, and let it accept."""
        config = self._generation.config
        if os.geteuid() == 0 and self._identity is None:
            log.warning(
                "workers and applications run as root: set [server] user to an unprivileged one"
            )
        listeners = self._generation.listeners
        address = config.control.listens_on(config.server.state_dir)
        listeners.open(config.listen, config.server.worker_count(), self._shared, address)
        if inheritance is None:
            listeners.listen()
            await self._generation.start(ignore)
        else:
            await self._generation.start(lambda text: inheritance.say(progress=text), healthy=True)
            listeners.listen()
        self._generation.accept()
        await self._control.open()
        if inheritance is not None:
            self._take_over(inheritance)
        announce(config, listeners.urls(), self._generation.apps, self._generation.workers)
        self._notifier.ready()

    def _take_over(self, inheritance: Inheritance) -> None:
        """Be the master; the predecessor, once it knows, finishes what it has."""
        self._state.take_over()
        former = Listeners()
        former.bound = [*inheritance.bound]
        former.close(but=self._generation.listeners.bound)
        self._shared = ()
        inheritance.say(ready="")
        os.close(inheritance.pipe)

    def _new_generation(self, number: int, config: Config) -> Generation:
        return Generation(
            number,
            config,
            Listeners(),
            folder=self._state.of_generation(number),
            identity=self._identity,
            worker_command=self._worker_command,
            ticket_secret=self._ticket_secret,
            attend=self._control.attend,
        )

    async def reload(self, tell: Tell) -> Outcome:
        """Replace everything but the master, one reload after the other.

        Raises CommandError, and then what runs goes on untouched.
        """
        if self._changing.locked():
            tell("another reload or upgrade comes first")
        async with self._changing:
            self._notifier.reloading()
            before = self._generation
            try:
                await self._replace(before, tell)
            except ProxydError as error:
                log.error("the reload failed, what runs goes on: %s", error)  # noqa: TRY400
                raise CommandError(f"the reload failed, what runs goes on: {error}") from None
            finally:
                self._notifier.ready()
            number = self._generation.number
            log.info("generation %d serves, generation %d ends", number, before.number)
            self._drain(before)
            self._mind_changes()
            return f"generation {number} serves", {"generation": number}

    async def _replace(self, old: Generation, tell: Tell) -> None:
        """Make a new generation beside the old one, and let it accept in its place."""
        config = load(Path(old.config.source.name))
        check_lasting(old.config, config)
        new = self._new_generation(old.number + 1, config)
        held = old.listeners.bound
        address = config.control.listens_on(config.server.state_dir)
        new.listeners.open(config.listen, config.server.worker_count(), held, address)
        try:
            give_logs(config, self._identity)
            await new.start(tell, healthy=True)
            new.listeners.listen()
            if config.log != old.config.log:
                self._error_log = open_error_log(config)
        except BaseException:
            await new.end("fast")
            new.listeners.close(but=held)
            raise
        self._generation = new
        new.accept()
        old.listeners.close(but=new.listeners.bound)

    def _drain(self, old: Generation) -> None:
        """Let a generation finish; past a number of them, or in development, cut it off."""
        if len(self._draining) >= DRAINING_GENERATIONS:
            self._begin(next(iter(self._draining)).end("fast"))
        self._draining[old] = asyncio.create_task(self._until_drained(old))

    async def _until_drained(self, old: Generation) -> None:
        await old.end("fast" if self._develops else "graceful")
        self._draining.pop(old, None)
        log.info("generation %d has ended", old.number)

    @property
    def _develops(self) -> bool:
        return self._watch or self._generation.config.server.dev

    def _mind_changes(self) -> None:
        if self._develops and (self._watching is None or self._watching.done()):
            self._watching = self._begin(self._reload_on_changes())

    async def _reload_on_changes(self) -> None:
        config = self._generation.config
        changes = Changes(config.folder, config.server.state_dir, self._began_ns)
        while self._develops:
            paths = await changes.wait()
            log.info("%s changed", ", ".join(paths[:5]))
            with suppress(CommandError):  # the log has it
                await self.reload(ignore)

    def _pids(self) -> set[int]:
        generations = [self._generation, *self._draining]
        children = [child for generation in generations for child in generation.children]
        return set().union(*(child.pids for child in children))

    async def upgrade(self, tell: Tell) -> Outcome:
        """Start a new master on the same sockets, and end when it serves.

        Raises CommandError, and then everything goes on as it was.
        """
        async with self._changing:
            try:
                pid = await self._succeed(tell)
            except ProxydError as error:
                log.error("the upgrade failed, what runs goes on: %s", error)  # noqa: TRY400
                raise CommandError(f"the upgrade failed, what runs goes on: {error}") from None
            log.info("another master serves (pid %d), this one ends", pid)
            self._wish("graceful")
            return f"a new master serves, pid {pid}", {"pid": pid}

    async def _succeed(self, tell: Tell) -> int:
        if os.getpid() == 1:
            raise CommandError(
                "as process 1 of a container, proxyd cannot be followed by another; start a new"
                " container"
            )
        generation = self._generation
        check_lasting(generation.config, load(Path(generation.config.source.name)))
        pid = await start_successor(
            generation.listeners.bound,
            generation.number + 1,
            self._state.lock,
            self._ticket_secret,
            self._notifier.environment(),
            tell,
        )
        self._shared = generation.listeners.bound
        self._state.owner = False
        self._notifier.succeeded(pid)
        return pid

    async def _asked(
        self, change: Callable[[Tell], Coroutine[Any, Any, Outcome]], tell: Tell
    ) -> Outcome:
        return await self._begin(change(tell))

    async def _stop_asked(self, stop: Stop, tell: Tell) -> Outcome:
        self._wish(stop)
        tell("ending")
        await self._ended.wait()
        return "proxyd has ended", {}

    async def _status(self, tell: Tell) -> Outcome:
        uptime_s = time.monotonic() - self._began_at
        return "", status_of(self._generation, self._draining, uptime_s)

    async def _stop(self) -> None:
        """End every generation."""
        for task in [*self._tasks]:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._stop_wish == "graceful":
            grace_s = self._generation.config.timeouts.shutdown
            log.info("ending, with up to %g s for requests in progress", grace_s)
            await self._until_wish(self._finish())
        generations = [self._generation, *self._draining]
        await asyncio.gather(*(generation.end("fast") for generation in generations))
        if self._draining:
            await asyncio.wait(self._draining.values())

    async def _finish(self) -> None:
        draining = [asyncio.shield(task) for task in self._draining.values()]
        await asyncio.gather(self._generation.end("graceful"), *draining)


def check_lasting(old: Config, new: Config) -> None:
    """Refuse what only a new start can change; raises CommandError."""
    for key in ("user", "group", "state_dir"):
        if getattr(old.server, key) != getattr(new.server, key):
            raise CommandError(
                f"{new.source.where(('server', key))}: `{key}` cannot change while proxyd runs;"
                " stop it and start it again"
            )


def ignore(_: str) -> None:
    """Nobody listens to the progress."""
