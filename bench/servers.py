"""Starts the two servers on the same work, each as its own documentation would have it."""

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

from bench.cpu import on_cpus, only_child
from bench.errors import BenchError, SkipError

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05

# Both write an access log through a buffer of 64 KB, look at a file at most once a second, keep
# connections open to clients and upstream as long as they are used, and have one worker.
NGINX_CONF = """
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 1024; }}
http {{
    types {{ image/png png; }}
    default_type application/octet-stream;
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
    uwsgi_temp_path temp; scgi_temp_path temp;
    log_format timed '$remote_addr - - [$time_local] "$request" $status $body_bytes_sent '
                     '"$http_referer" "$http_user_agent" $request_time '
                     '$upstream_response_time $request_id';
    access_log access.log timed buffer=64k flush=1s;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 100000000;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 1s;
    upstream backend {{
        server 127.0.0.1:{upstream_port};
        keepalive 32;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location /static/ {{ alias {files}/; }}
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Request-ID $request_id;
        }}
    }}
}}
"""

PROXYD_TOML = """
[server]
workers = 1
state_dir = "var"

[[listen]]
address = "127.0.0.1:{port}"

[log]
access = "access.log"
error = "error.log"

[upstream.backend]
servers = ["127.0.0.1:{upstream_port}"]

[[route]]
path = "/static/*"
files = "{files}"

[[route]]
path = "/*"
to = "backend"
"""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that runs; `worker` is the process whose CPU counts."""

    name: str
    version: str
    port: int
    worker: int


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
def nginx(folder: Path, files: Path, upstream_port: int, cpus: set[int]) -> Iterator[Server]:
    """Run nginx in a folder of its own."""
    program = require("nginx", "nginx-light")
    port = free_port()
    (folder / "temp").mkdir(parents=True)
    configuration = NGINX_CONF.format(
        user=f"user {account()};" if os.geteuid() == 0 else "",
        port=port,
        files=files,
        upstream_port=upstream_port,
    )
    (folder / "nginx.conf").write_text(configuration)
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    version = told.rpartition("/")[2].strip()
    command = [program, "-p", str(folder), "-e", "error.log", "-c", "nginx.conf"]
    with running(command, folder, cpus, port) as worker:
        yield Server(name="nginx", version=version, port=port, worker=worker)


@contextmanager
def proxyd(folder: Path, files: Path, upstream_port: int, cpus: set[int]) -> Iterator[Server]:
    """Run proxyd as its users do."""
    port = free_port()
    folder.mkdir(parents=True)
    configuration = PROXYD_TOML.format(port=port, files=files, upstream_port=upstream_port)
    (folder / "proxy.toml").write_text(configuration)
    program = str(Path(sys.executable).with_name("proxyd"))
    told = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout
    version = told.splitlines()[0].removeprefix("proxyd ")
    with running([program, "run", "-c", "proxy.toml"], folder, cpus, port) as worker:
        yield Server(name="proxyd", version=version, port=port, worker=worker)


def account() -> str:
    """Return the current user and group, as nginx wants them: started by root it changes both."""
    return f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"


@contextmanager
def running(command: list[str], folder: Path, cpus: set[int], port: int) -> Iterator[int]:
    """Run a server until the end of the block; gives the pid of its worker. Raises BenchError."""
    output = folder / "output"
    with on_cpus(cpus), output.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=stream)
    try:
        wait_until_accepting(process, port, output)
        yield only_child(process.pid)
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
