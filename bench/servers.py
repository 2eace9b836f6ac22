"""Starts servers and their upstream on CPUs of their own, and stops them; as the lab does."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from bench.cpu import on_cpus, wait_until_idle
from bench.engines.engine import Engine, Site
from bench.errors import BenchError
from bench.jobs import Job, Part
from proxy.errors import LabError
from proxy.lab.services import HOST, START_TIMEOUT_S, Build, Services, serving

CONNECT_TIMEOUT_S = 0.05
PROBE = b"OPTIONS * HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that runs. `roots`: the pids that all of its processes descend from."""

    name: str
    version: str
    serves: frozenset[Part]
    port: int
    tls_port: int
    roots: tuple[int, ...]

    def does(self, job: Job) -> bool:
        """Say whether it is made for a job at all."""
        return job.needs <= self.serves


@contextmanager
def upstream(cpus: set[int]) -> Iterator[int]:
    """Run the upstream of all; gives its port."""
    with on_cpus(cpus):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.upstream"], stdout=subprocess.PIPE, text=True
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise BenchError("the upstream did not start")
        yield int(line)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def started(engine: Engine, site: Site, cpus: set[int]) -> Iterator[Server]:
    """Run a server until the end of the block. Raises BenchError, SkipError."""
    site.folder.mkdir()
    with running(engine.build(engine.path(), site), site.folder, cpus, site.port) as services:
        yield Server(
            name=engine.name,
            version=engine.version(),
            serves=engine.serves,
            port=site.port,
            tls_port=site.tls_port,
            roots=tuple(services.roots),
        )


@contextmanager
def running(build: Build, folder: Path, cpus: set[int], port: int) -> Iterator[Services]:
    """Run services until the end of the block, from when they rest. Raises BenchError."""
    # Caddy keeps what it remembers where these say, and not with its folder.
    own = {"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with ExitStack() as stack:
        try:
            with on_cpus(cpus):
                services = stack.enter_context(
                    serving(build, folder, {**os.environ, **own}, lambda: answers(port))
                )
        except LabError as error:
            raise BenchError(str(error)) from None
        wait_until_idle(services.roots)
        yield services


def answers(port: int) -> bool:
    """Say whether a server has a worker that answers: the backlog accepts for one that starts."""
    try:
        with socket.create_connection((HOST, port), CONNECT_TIMEOUT_S) as probe:
            probe.settimeout(START_TIMEOUT_S)
            probe.sendall(PROBE)
            return bool(probe.recv(1))
    except OSError:
        return False
