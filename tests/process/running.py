"""Real applications in real processes, and a client that speaks HTTP over a unix socket."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from proxy.process import serve_wsgi

APPLICATION = """
import itertools, json, os, sys, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    if path == "/pid":
        return answer(start_response, str(os.getpid()))
    if path == "/say":
        print("said by the app", flush=True)
        sys.stderr.write("half a line")
        sys.stderr.flush()
    if path == "/length":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        return answer(start_response, str(len(body)))
    if path == "/exit":
        os._exit(3)
    shown = {key: value for key, value in environ.items() if isinstance(value, str)}
    return answer(start_response, json.dumps(shown))

def answer(start_response, text):
    body = text.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def events():
    yield b"data: first\\n\\n"
    while not os.path.exists("go-on"):
        time.sleep(0.01)
    yield b"data: second\\n\\n"

number = 7
"""


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("proxyd.test", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 20) -> None:
    """Poll for what another process does; fails with `what` when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.01)


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to notice its end does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")


class Served:
    """One serve_wsgi process."""

    def __init__(self, folder: Path, server: str, target: str, threads: int) -> None:
        self.path = folder / "app.sock"
        self.process = subprocess.Popen(
            [
                sys.executable, "-P", "-u", serve_wsgi.__file__, "--server", server,
                "--socket", str(self.path), "--threads", str(threads), "--life-line", target,
            ],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        wait_for(lambda: connects(self.path) or self.process.poll() is not None, "the application")
        assert self.process.poll() is None

    def output(self) -> str:
        """Return all that it wrote until its end, its life line kept."""
        assert self.process.stdout is not None
        written = self.process.stdout.read().decode()
        self.process.wait(timeout=20)
        return written

    def connection(self) -> UnixConnection:
        return UnixConnection(self.path)

    def get(self, target: str, headers: dict[str, str] | None = None) -> bytes:
        connection = self.connection()
        connection.request("GET", target, headers=headers or {})
        body = connection.getresponse().read()
        connection.close()
        return body
