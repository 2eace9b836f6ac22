"""A proxyd that serves one small file, for what is measured of its workers. Linux only."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cpu import children
from bench.servers import free_port, running

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
    port = free_port()
    text = SITE.format(workers=workers, connections=connections, port=port)
    (folder / "proxy.toml").write_text(text)
    program = ["-c", SHARED] if shared else [str(Path(sys.executable).with_name("proxyd"))]
    command = [sys.executable, *program, "run", "--allow-root", "-c", "proxy.toml"]
    with running(command, folder, os.sched_getaffinity(0), port) as master:
        yield port, [pid for pid in children(master) if is_worker(pid)]


def is_worker(pid: int) -> bool:
    """Say whether a process is a worker, by its command line."""
    return b"proxy.process.worker" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def request(*fields: str) -> bytes:
    """Return a request for the file."""
    return "\r\n".join([f"GET {TARGET} HTTP/1.1", "Host: bench", *fields, "", ""]).encode()
