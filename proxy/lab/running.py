"""A stack that runs: started, watched while it is measured, and ended without a process left over.

Each service is the leader of a session of its own, so that Ctrl-C reaches the lab alone, which then
takes them all down in order.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from proxy.errors import LabError
from proxy.lab import usage
from proxy.lab.catalog import APPLICATION, Build, Kind, Service, Site
from proxy.lab.model import ConfigurationFile, Process

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
# From SIGTERM to SIGKILL.
END_TIMEOUT_S = 5.0
POLL_S = 0.02
LOG_TAIL_BYTES = 2000


class Running:
    """The processes of one stack."""

    def __init__(self, kind: Kind, site: Site, build: Build) -> None:
        self.kind = kind
        self.port = site.port
        self._site = site
        self._build = build
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def roots(self) -> list[int]:
        """The pid of each service."""
        return [process.pid for process in self._started.values()]

    def start(self) -> None:
        """Write the files, start the services, wait for the first answer. Raises LabError."""
        (self._site.folder / "temp").mkdir()
        for name, text in self._build.files.items():
            (self._site.folder / name).write_text(text)
        for service in self._build.services:
            self._launch(service)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            for service in self._build.services:
                if self._started[service.name].poll() is not None:
                    raise LabError(f"{service.name} ended as it started:\n{self._log(service)}")
            if time.monotonic() > deadline:
                log = self._log(self._build.services[-1])
                raise LabError(f"no answer within {START_TIMEOUT_S:.0f} s of its start:\n{log}")
            time.sleep(POLL_S)

    def _launch(self, service: Service) -> None:
        with (self._site.folder / f"{service.name}.log").open("ab") as log:
            self._started[service.name] = subprocess.Popen(  # noqa: S603 - of the catalog
                service.command,
                cwd=self._site.folder,
                env=dict(self._site.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, service: Service) -> str:
        text = (self._site.folder / f"{service.name}.log").read_bytes()[-LOG_TAIL_BYTES:]
        return text.decode(errors="replace").strip()

    def answers(self) -> bool:
        """Ask once whether the application answers."""
        return self.ask("/lab/seen") is not None

    def ask(self, path: str) -> bytes | None:
        """Get a page on a connection of its own; None when that does not come with 200."""
        connection = HTTPConnection(HOST, self.port, timeout=2.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException):
            return None
        else:
            return body if response.status == 200 else None
        finally:
            connection.close()

    def cpu(self) -> usage.Cpu:
        """Return the CPU time of all its processes until now."""
        return usage.cpu(self.roots)

    def processes(self) -> list[Process]:
        """Return all its processes with their memory."""
        return usage.processes([(name, one.pid) for name, one in self._started.items()])

    def configuration(self) -> list[ConfigurationFile]:
        """Return what a person needs to start it again."""
        commands = "\n".join(service.shown for service in self._build.services)
        return [
            ConfigurationFile(name="command", text=commands),
            *(ConfigurationFile(name=name, text=text) for name, text in self._build.files.items()),
        ]

    def kill_application(self) -> None:
        """End the process that the application runs in, as the kernel does when memory is short."""
        inner = self.kind.layers[self.kind.layers.index(APPLICATION) - 1]
        for name, one in self._started.items():
            for process in reversed(usage.family(one.pid)):
                with suppress(psutil.Error):
                    named = usage.described(name, process, is_root=process.pid == one.pid)
                    if named.layer == inner and named.name != "gunicorn master":
                        process.kill()

    def revive(self) -> None:
        """Start again what has ended."""
        for service in self._build.services:
            if self._started[service.name].poll() is not None:
                self._launch(service)

    def restore(self) -> None:
        """Start again what has ended, and wait until it answers. Raises LabError."""
        self.revive()
        self._wait()

    def dead(self) -> bool:
        """Say whether a service has ended."""
        return any(process.poll() is not None for process in self._started.values())

    def stop(self) -> None:
        """End every process of the stack, by force what does not go."""
        all_processes = [process for root in self.roots for process in usage.family(root)]
        for started in reversed(self._started.values()):
            started.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(all_processes, timeout=END_TIMEOUT_S)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        for root in self.roots:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(root, signal.SIGKILL)
        for started in self._started.values():
            started.wait()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C off meanwhile: a second one must not leave processes over."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def running(
    kind: Kind, folder: Path, files: Path, environment: dict[str, str]
) -> Iterator[Running]:
    """Run a stack in a new folder, on free ports. Raises LabError when it does not start."""
    port, inner_port = free_ports(2)
    folder.mkdir()
    site = Site(
        folder=folder, port=port, inner_port=inner_port, files=files, environment=environment
    )
    stack = Running(kind, site, kind.build(site))
    try:
        stack.start()
        yield stack
    finally:
        with uninterrupted():
            stack.stop()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    sockets = []
    try:
        for _ in range(count):
            sock = socket.socket()
            sockets.append(sock)
            sock.bind((HOST, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
