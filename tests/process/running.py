"""Real applications in real processes, and a client that speaks HTTP over a unix socket."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
            start_new_session=True,
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


WORKER = """
import faulthandler, json, os, signal, socket, sys, threading, time

given = json.loads(sys.stdin.readline())

def life_line():
    for line in sys.stdin:
        if line == "accept\\n":
            accept.set()
    os._exit(9)

accept = threading.Event()

threading.Thread(target=life_line, daemon=True).start()

def note(number, _):
    with open("signals", "a") as file:
        file.write(f"{given['worker']} {signal.Signals(number).name}\\n")
    if number == signal.SIGQUIT:
        while not os.path.exists("requests-done"):
            time.sleep(0.01)
        os._exit(0)

for number in (signal.SIGQUIT, signal.SIGUSR1):
    signal.signal(number, note)
if os.path.exists("worker-fails"):
    sys.exit(5)
os.write(given["pulse_fd"], b"ready\\n")
accept.wait()
sock = socket.socket(fileno=given["listeners"][0]["fd"])
sock.setblocking(True)
moving = threading.Event()
moving.set()

def show_life():
    while moving.is_set():
        os.write(given["pulse_fd"], b"\\n")
        time.sleep(0.05)

threading.Thread(target=show_life, daemon=True).start()
faulthandler.register(signal.SIGUSR2, given["pulse_fd"], all_threads=True)
while True:
    connection, _ = sock.accept()
    if b"/hang" in connection.recv(65536):
        moving.clear()
    given |= {"pid": os.getpid(), "uid": os.getuid(), "groups": os.getgroups(),
              "home": os.environ.get("HOME")}
    body = json.dumps(given).encode()
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    connection.close()
"""

RUN = """
import sys
from pathlib import Path
from proxy.config.load import load
from proxy.process.daemon import run
watch = "--watch" in sys.argv
sys.exit(run(load(Path("proxy.toml")), [a for a in sys.argv[1:] if a != "--watch"], watch=watch,
             allow_root=True))
"""


def newest_socket(folder: Path, number: int = 0) -> Path:
    """Return where the latest process of an application listens."""
    paths = folder.glob(f"timeline-{number}.*")
    return max(paths, key=lambda path: int(path.name.split(".")[1]))


class Daemon:
    """A real master with the application above and a stand-in for the worker."""

    def __init__(
        self, folder: Path, configuration: str, worker_python: str, *, watch: bool = False
    ) -> None:
        self.folder = folder
        (folder / "proxy.toml").write_text(configuration)
        (folder / "worker.py").write_text(WORKER)
        self.errors_path = folder / "stderr"
        with self.errors_path.open("ab") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    RUN,
                    worker_python,
                    "worker.py",
                    *(["--watch"] if watch else []),
                ],
                cwd=folder,
                stderr=errors,
            )

    @property
    def errors(self) -> str:
        return self.errors_path.read_text()

    def wait_until_ready(self) -> None:
        wait_for(lambda: "proxyd: master" in self.errors or self.process.poll() is not None, "it")
        assert self.process.poll() is None, self.errors

    def wait_for_error(self, text: str) -> None:
        wait_for(lambda: text in self.errors, f"{text!r} in the log")

    @property
    def port(self) -> int:
        line = next(line for line in self.errors.splitlines() if "listening http" in line)
        return int(line.rpartition(":")[2])

    def ask_worker(self, target: str = "/") -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", target)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def ask_app(self, number: int = 0) -> UnixConnection:
        return UnixConnection(newest_socket(self.folder / "var" / "run" / "1", number))

    def pids(self) -> list[int]:
        """Return the pids that it announced: applications, workers, the master."""
        return [
            int(line.rpartition(" ")[2])
            for line in self.errors.splitlines()
            if line.startswith("proxyd:") and " pid " in line
        ]

    def app_pid(self, number: int = 0) -> int:
        connection = self.ask_app(number)
        connection.request("GET", "/pid")
        pid = int(connection.getresponse().read())
        connection.close()
        return pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def files(self) -> set[str]:
        """Return what is left in the state folder that is no folder, but for the cache."""
        state = self.folder / "var"
        found = {path for path in state.rglob("*") if not path.is_dir()}
        return {path.name for path in found if state / "cache" not in path.parents}
