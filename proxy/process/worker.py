"""A worker: one event loop that serves traffic. Started by the master, ends with it.

Gets one line of JSON on standard input (see workers.py), says that it is ready, and accepts when it
is told to. Standard input stays open: its end means that the master is gone.
"""

import asyncio
import faulthandler
import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypedDict

import uvloop

from proxy.clock import Clock
from proxy.compose import Parts, client_limits, entrance
from proxy.config.load import parse
from proxy.config.schema import Config
from proxy.errors import ProxydError
from proxy.observe.logs import ErrorLog, configure
from proxy.process.probes import Probes
from proxy.process.pulse import APP, BEAT, BEAT_S, DUMP_SIGNAL, READY
from proxy.process.worker_apps import WorkerApps
from proxy.process.worker_cache import WorkerCache
from proxy.process.worker_metrics import PUBLISH_S, WorkerMetrics
from proxy.process.worker_tls import WorkerTls
from proxy.process.workers import ACCEPT, LINE_BYTES, TLS
from proxy.protocol.deadlines import Deadlines
from proxy.protocol.listener import listen
from proxy.protocol.service import Service

log = logging.getLogger("proxyd.worker")

# How often deadlines and timeouts are looked at: nobody notices half a second in one of 20.
TICK_S = 0.25
# What exchanges that were cut off may take to release what they hold.
ENDING_S = 1.0


class Listener(TypedDict):
    """A bound socket and the [[listen]] that it belongs to."""

    fd: int
    index: int


class Document(TypedDict):
    """What the master says to a worker; workers.py has the meaning of each."""

    config: str
    config_text: str
    worker: int
    listeners: list[Listener]
    apps: dict[str, list[str]]
    siblings: list[str]
    tls: str
    pulse_fd: int


def allow_descriptors(connections: int) -> None:
    """Raise the soft limit of open files to what so many connections may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each may have an upstream connection and a file; 256 for listeners, logs and libraries.
    wanted = 3 * connections + 256
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "only %d files may be open at once; %d worker_connections may need %d: raise the limit"
            " (ulimit -n, LimitNOFILE=) or lower worker_connections",
            allowed,
            connections,
            wanted,
        )


class Worker:
    """The running worker."""

    service: Service

    def __init__(self, config: Config, document: Document, error_log: ErrorLog) -> None:
        self.config = config
        self.document = document
        self.error_log = error_log
        self.clock = Clock()
        sockets = {name: [Path(path) for path in paths] for name, paths in document["apps"].items()}
        self.parts = Parts(config, sockets, self.clock)
        self.tls = WorkerTls(config, document["tls"])
        siblings = [Path(path) for path in document["siblings"]]
        self.cache = WorkerCache(config, self.parts, document["worker"], siblings)
        self.probes = Probes(config, self.parts.groups)
        self.apps = WorkerApps(config, self.parts.groups, self._say)
        self.metrics = WorkerMetrics(config, self.parts, error_log)
        self.servers: list[asyncio.Server] = []
        self.stopping: asyncio.Future[float] | None = None
        self.accepting = asyncio.Event()
        self.heard = b""

    async def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        loop = asyncio.get_running_loop()
        self.stopping = stopping = loop.create_future()
        limits = client_limits(self.config)
        service = Service(loop, self.parts.site, limits, self.clock, Deadlines(loop.time()))
        self.service = service
        allow_descriptors(limits.worker_connections)
        self._watch_signals(loop)
        await self.cache.listen(loop, self.clock)
        self.probes.start()
        self.metrics.open(service, self.cache)
        tick = loop.create_task(self._tick(service))
        gc.freeze()  # what was imported and built stays; the collector need not look at it again
        self._say(READY)
        told = asyncio.ensure_future(self.accepting.wait())
        await asyncio.wait({told, stopping}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if self.accepting.is_set():
            await self._listen(service)
        grace_s = await stopping
        for _ in range(2):  # one turn of the loop accepts who was there before, and we may be last
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        if grace_s and not await service.drain(grace_s):
            log.warning("stopped with %d connections still open", len(service.connections))
        service.abort_all()
        await self.cache.drain(grace_s)
        await self.probes.stop()
        tick.cancel()
        await service.drain(ENDING_S)  # what was cut off is logged as well
        ending = asyncio.all_tasks() - {asyncio.current_task(), tick}
        if ending:
            await asyncio.wait(ending, timeout=ENDING_S)
        self.parts.close()
        self.metrics.close()
        await self.cache.close()
        return 0

    async def _listen(self, service: Service) -> None:
        """Accept connections on every socket."""
        for listener in self.document["listeners"]:
            given = self.config.listen[listener["index"]]
            sock = socket.socket(fileno=listener["fd"])
            sock.setblocking(False)
            self.servers.append(
                await listen(
                    service,
                    sock,
                    backlog=given.backlog,
                    proxy_protocol=given.proxy_protocol,
                    contexts=self.tls.contexts.get(listener["index"]),
                    entrance=entrance(self.config, given),
                )
            )

    def _say(self, line: bytes) -> None:
        """Tell the master; who does not listen is not waited for."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.document["pulse_fd"], line)

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGTERM, self._stop, 0.0)
        loop.add_signal_handler(signal.SIGINT, self._stop, 0.0)
        loop.add_signal_handler(signal.SIGQUIT, self._stop, self.config.timeouts.shutdown)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        loop.add_reader(sys.stdin.fileno(), self._life_line)

    def _life_line(self) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._stop(0.0)
        *lines, self.heard = (self.heard + data)[-LINE_BYTES:].split(b"\n")
        for line in lines:
            if line == ACCEPT.rstrip():
                self.accepting.set()
            elif line.startswith(TLS):
                self.tls.take(line[len(TLS) :])
            elif line.startswith(APP):
                self.apps.take(line[len(APP) :])

    def _stop(self, grace_s: float) -> None:
        if self.stopping is None:
            return
        if not self.stopping.done():
            self.stopping.set_result(grace_s)
        elif grace_s == 0.0:  # the second one is in a hurry: what drains is cut off
            self.service.abort_all()

    def _reopen_logs(self) -> None:
        self.parts.access_log.reopen()
        try:
            self.error_log.reopen()
        except OSError as error:
            log.warning("the error log cannot be opened again, the old one goes on: %s", error)

    async def _tick(self, service: Service) -> None:
        """Do what is due every now and then: the one timer of this process."""
        flush_at = beat_at = publish_at = 0.0
        while True:
            now = service.loop.time()
            duties: list[Callable[[], None]] = [
                self.clock.tick,
                partial(service.deadlines.sweep, now),
                partial(self.tls.tick, self.clock.now),
                partial(self.cache.sweep, now),
            ]
            duties += [partial(group.sweep, now) for group in self.parts.groups.values()]
            if now >= flush_at:
                duties.append(self.parts.access_log.flush)
                flush_at = now + self.config.log.flush_interval
            if now >= beat_at:
                duties.append(partial(self._say, BEAT))
                duties.append(self.cache.tick)
                beat_at = now + BEAT_S
            if now >= publish_at:
                duties += [self.metrics.publish, self.apps.tick]
                publish_at = now + PUBLISH_S
            for duty in duties:
                try:
                    duty()
                except Exception:  # one that fails must not end the others, nor the next turn
                    log.exception("a duty of the timer failed")
            await asyncio.sleep(TICK_S)


def main() -> int:
    """Read the document from standard input and serve."""
    line = b""
    while not line.endswith(b"\n"):  # nothing comes behind it before it was answered
        piece = os.read(sys.stdin.fileno(), 65536)
        if not piece:
            return 1
        line += piece
    document: Document = json.loads(line)
    os.set_blocking(document["pulse_fd"], False)
    faulthandler.register(DUMP_SIGNAL, document["pulse_fd"], all_threads=True)
    try:
        config = parse(document["config_text"], Path(document["config"]))
        name = f"worker {document['worker'] + 1}"
        path = "stderr" if config.log.error == "-" else str(config.log.error)
        error_log = configure(path, name, config.log.level)
        worker = Worker(config, document, error_log)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(worker.run())
    except (ProxydError, OSError) as error:
        print(f"proxyd: {error}", file=sys.stderr)  # noqa: T201 - the log may not be there yet
        return 1


if __name__ == "__main__":
    sys.exit(main())
