"""Starts the two servers and their upstream, and stops them."""

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from bench.configurations import CACHE_DISK_MIB, NGINX_CONF, PROXYD_TOML
from bench.cpu import on_cpus, wait_until_idle
from bench.errors import BenchError, SkipError

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that runs; `pid` is its master, which has one worker."""

    name: str
    version: str
    port: int
    tls_port: int
    pid: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What both servers are told of: the files, the upstream, and a certificate with its key."""

    files: Path
    upstream_port: int
    certificate: Path
    key: Path


def require(program: str, package: str) -> str:
    """Return the path of a program. Raises SkipError."""
    # Debian keeps nginx in /usr/sbin, which is not on every user's PATH.
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        raise SkipError(f"{program} is not installed; on Debian: apt-get install {package}")
    return path


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def upstream(cpus: set[int]) -> Iterator[int]:
    """Run the upstream of both; gives its port."""
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
def nginx(folder: Path, work: Work, cpus: set[int]) -> Iterator[Server]:
    """Run nginx in a folder of its own."""
    program = require("nginx", "nginx-light")
    (folder / "temp").mkdir(parents=True)
    user = f"user {account()};" if os.geteuid() == 0 else ""
    port, tls_port = free_port(), free_port()
    text = configured(NGINX_CONF, work, user=user, port=port, tls_port=tls_port)
    (folder / "nginx.conf").write_text(text)
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    version = told.rpartition("/")[2].strip()
    command = [program, "-p", str(folder), "-e", "error.log", "-c", "nginx.conf"]
    with running(command, folder, cpus, port) as pid:
        yield Server(name="nginx", version=version, port=port, tls_port=tls_port, pid=pid)


@contextmanager
def proxyd(folder: Path, work: Work, cpus: set[int]) -> Iterator[Server]:
    """Run proxyd as its users do."""
    folder.mkdir(parents=True)
    port, tls_port = free_port(), free_port()
    text = configured(PROXYD_TOML, work, port=port, tls_port=tls_port)
    (folder / "proxy.toml").write_text(text)
    program = str(Path(sys.executable).with_name("proxyd"))
    told = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    version = told.splitlines()[0].removeprefix("proxyd ")
    with running([program, "run", "--allow-root", "-c", "proxy.toml"], folder, cpus, port) as pid:
        yield Server(name="proxyd", version=version, port=port, tls_port=tls_port, pid=pid)


def configured(template: str, work: Work, **own: object) -> str:
    """Fill in a configuration."""
    return template.format(
        files=work.files,
        upstream_port=work.upstream_port,
        certificate=work.certificate,
        key=work.key,
        disk_mib=CACHE_DISK_MIB,
        **own,
    )


def account() -> str:
    """Return the current user and group, as nginx wants them: started by root it changes both."""
    return f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"


@contextmanager
def running(command: list[str], folder: Path, cpus: set[int], port: int) -> Iterator[int]:
    """Run a server until the end of the block; gives its pid. Raises BenchError."""
    output = folder / "output"
    with on_cpus(cpus), output.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream)
    try:
        wait_until_accepting(process, port, output)
        wait_until_idle(process.pid)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_accepting(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    """Return when the server has a worker that accepts; its own words when it does not start."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), POLL_S) as probe:
            # The backlog accepts for a server that still starts; only an answer is one.
            probe.settimeout(START_TIMEOUT_S)
            probe.sendall(b"OPTIONS * HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            if probe.recv(1):
                return
        time.sleep(POLL_S)
    raise BenchError(f"{process.args!r} did not start:\n{output.read_text()}")
