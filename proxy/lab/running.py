"""A stack that runs: its services, and what the experiments ask and do of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from proxy.lab import usage
from proxy.lab.catalog import APPLICATION, Kind, Site
from proxy.lab.model import ConfigurationFile, Process
from proxy.lab.services import HOST, Build, Services, free_ports, serving

# A stack that has used less than this share of a CPU for so long is done with starting.
REST_SHARE, REST_S = 0.1, 0.1
REST_TIMEOUT_S = 5.0
# What visitors who have left asked for is still made by some, after a crowd for a long time.
RECOVERY_TIMEOUT_S = 60.0
KILL_TIMEOUT_S = 5.0
RECOVERY_POLLS = 3


class Running:
    """The processes of one stack."""

    def __init__(self, kind: Kind, port: int, build: Build, services: Services) -> None:
        self.kind = kind
        self.port = port
        self._build = build
        self._services = services

    @property
    def roots(self) -> list[int]:
        """The pid of each service."""
        return self._services.roots

    def answers(self) -> bool:
        """Ask once whether the application answers."""
        return answers(self.port)

    def ask(self, path: str) -> bytes | None:
        """Get a page on a connection of its own; None when that does not come with 200."""
        return ask(self.port, path)

    def cpu(self) -> usage.Cpu:
        """Return the CPU time of all its processes until now."""
        return usage.cpu(self.roots)

    def rest(self, timeout_s: float = REST_TIMEOUT_S) -> None:
        """Wait until it is done with starting, also with what it starts when it already answers.

        proxyd's control process is such a one: its start would be counted as what requests cost.
        """
        deadline = time.monotonic() + timeout_s
        used_s, looked_at = self.cpu().total_s, time.monotonic()
        while looked_at < deadline:
            time.sleep(REST_S)
            before_s, before_at = used_s, looked_at
            used_s, looked_at = self.cpu().total_s, time.monotonic()
            if used_s - before_s < REST_SHARE * (looked_at - before_at):
                return

    def recover(self) -> bool:
        """Wait until it has done what was asked of it, and answers.

        An application that does not answer any more is started again; then this returns False.
        Raises LabError when it does not answer even so.
        """
        self.rest(RECOVERY_TIMEOUT_S)
        if any(self.answers() for _ in range(RECOVERY_POLLS)):
            return True
        self.kill_application()
        self.restore()
        return False

    def processes(self) -> list[Process]:
        """Return all its processes with their memory."""
        return usage.processes(self._services.named)

    def configuration(self) -> list[ConfigurationFile]:
        """Return what a person needs to start it again."""
        commands = "\n".join(service.shown for service in self._build.services)
        return [
            ConfigurationFile(name="command", text=commands),
            *(ConfigurationFile(name=name, text=text) for name, text in self._build.files.items()),
        ]

    def kill_application(self) -> None:
        """End the process that the application runs in, as the kernel does when memory is short."""
        killed = []
        inner = self.kind.layers[self.kind.layers.index(APPLICATION) - 1]
        for name, pid in self._services.named:
            for process in reversed(usage.family(pid)):
                with suppress(psutil.Error):
                    named = usage.described(name, process, is_root=process.pid == pid)
                    if named.layer == inner and named.name != "gunicorn master":
                        process.kill()
                        killed.append(process)
        psutil.wait_procs(killed, timeout=KILL_TIMEOUT_S)

    def revive(self) -> None:
        """Start again what has ended."""
        self._services.revive()

    def restore(self) -> None:
        """Start again what has ended, and wait until it answers. Raises LabError."""
        self._services.revive()
        self._services.wait(self.answers)

    def dead(self) -> bool:
        """Say whether a service has ended."""
        return self._services.dead()


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
    build = kind.build(site)
    with serving(build, folder, environment, lambda: answers(port)) as services:
        started = Running(kind, port, build, services)
        started.rest()
        yield started


def answers(port: int) -> bool:
    """Ask once whether an application answers."""
    return ask(port, "/lab/seen") is not None


def ask(port: int, path: str) -> bytes | None:
    """Get a page on a connection of its own; None when that does not come with 200."""
    connection = HTTPConnection(HOST, port, timeout=2.0)
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
