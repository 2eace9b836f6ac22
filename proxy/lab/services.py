"""Programs that belong together: started, watched while they are measured, and ended, all of them.

Each is the leader of a session of its own, so that Ctrl-C reaches only who measures, who then takes
them all down in order.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import psutil

from proxy.errors import LabError
from proxy.lab import usage
from proxy.lab.interrupts import uninterrupted

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
# From SIGTERM to SIGKILL.
END_TIMEOUT_S = 5.0
POLL_S = 0.02
LOG_TAIL_BYTES = 2000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program. `shown`: its command as a person would write it."""

    name: str
    command: list[str]
    shown: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What makes it run: files to write, then services to start, the innermost first."""

    services: list[Service]
    files: dict[str, str] = field(default_factory=dict)


class Services:
    """The services of one build, in a folder of their own."""

    def __init__(self, build: Build, folder: Path, environment: Mapping[str, str]) -> None:
        self._build = build
        self._folder = folder
        self._environment = dict(environment)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def roots(self) -> list[int]:
        """The pid of each service."""
        return [process.pid for process in self._started.values()]

    @property
    def named(self) -> list[tuple[str, int]]:
        """The name and the pid of each service."""
        return [(name, process.pid) for name, process in self._started.items()]

    def start(self) -> None:
        """Write the files and start the services, without waiting for them."""
        (self._folder / "temp").mkdir()
        for name, text in self._build.files.items():
            (self._folder / name).write_text(text)
        for service in self._build.services:
            self._launch(service)

    def wait(self, answers: Callable[[], bool]) -> None:
        """Return when they answer. Raises LabError with their own words when they do not."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers():
            for service in self._build.services:
                if self._started[service.name].poll() is not None:
                    raise LabError(f"{service.name} ended as it started:\n{self._log(service)}")
            if time.monotonic() > deadline:
                log = self._log(self._build.services[-1])
                raise LabError(f"no answer within {START_TIMEOUT_S:.0f} s of its start:\n{log}")
            time.sleep(POLL_S)

    def _launch(self, service: Service) -> None:
        with (self._folder / f"{service.name}.log").open("ab") as log:
            self._started[service.name] = subprocess.Popen(  # noqa: S603 - of the catalog
                service.command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, service: Service) -> str:
        text = (self._folder / f"{service.name}.log").read_bytes()[-LOG_TAIL_BYTES:]
        return text.decode(errors="replace").strip()

    def revive(self) -> None:
        """Start again what has ended."""
        for service in self._build.services:
            if self._started[service.name].poll() is not None:
                self._launch(service)

    def dead(self) -> bool:
        """Say whether a service has ended."""
        return any(process.poll() is not None for process in self._started.values())

    def stop(self) -> None:
        """End every process of every service, by force what does not go."""
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
def serving(
    build: Build, folder: Path, environment: Mapping[str, str], answers: Callable[[], bool]
) -> Iterator[Services]:
    """Run services in a folder that is there. Raises LabError when they do not start."""
    services = Services(build, folder, environment)
    try:
        services.start()
        services.wait(answers)
        yield services
    finally:
        with uninterrupted():
            services.stop()


def find_program(name: str) -> str | None:
    """Return the path of a program, also of one that only administrators have on their PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


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
