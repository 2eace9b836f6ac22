"""A proxyd that serves one small file, for what is measured of its workers. Linux only."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.engines.proxyd import PROXYD
from bench.servers import running
from proxy.lab import usage
from proxy.lab.services import Build, Service, free_ports

TARGET = "/page.html"
CONTENT = b"<!doctype html><title>bench</title>" + b"x" * 989
SITE = """
[server]
workers = {workers}
worker_connections = {connections}
[[listen]]
address = "127.0.0.1:{port}"
backlog = 4096
[timeouts]
keepalive = "10m"
[log]
access = "off"
error = "error.log"
[[route]]
path = "/*"
files = "files"
"""
# Runs proxyd with one listening socket that all workers accept from, as where the kernel does not
# balance between several.
SHARED = """
import sys
from proxy.cli import main
from proxy.process import sockets
sockets.BALANCES_BY_PORT = False
sys.exit(main())
"""


@contextmanager
def serving(
    folder: Path, workers: int, *, connections: int = 8192, shared: bool = False
) -> Iterator[tuple[int, list[int]]]:
    """Run it; gives its port and the pids of its workers. Raises BenchError."""
    (folder / "files").mkdir(parents=True)
    (folder / "files" / TARGET[1:]).write_bytes(CONTENT)
    (port,) = free_ports(1)
    text = SITE.format(workers=workers, connections=connections, port=port)
    program = ["-c", SHARED] if shared else [PROXYD.path()]
    command = [sys.executable, *program, "run", "--allow-root", "-c", "proxy.toml"]
    build = Build(services=[Service(name="proxyd", command=command)], files={"proxy.toml": text})
    with running(build, folder, os.sched_getaffinity(0), port) as services:
        (master,) = services.roots
        yield port, [one.pid for one in usage.family(master) if is_worker(one)]


def is_worker(process: psutil.Process) -> bool:
    """Say whether a process is a worker, by its command line."""
    return "proxy.process.worker" in process.cmdline()


def request(*fields: str) -> bytes:
    """Return a request for the file."""
    return "\r\n".join([f"GET {TARGET} HTTP/1.1", "Host: bench", *fields, "", ""]).encode()
