"""A real worker process, as its master starts it: one line on stdin, sockets, signals."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.process.pulse import DUMP_SIGNAL, READY
from proxy.process.workers import ACCEPT
from tests.process.running import wait_for

CONFIGURATION = """
[log]
access = "access.log"
error = "{error}"
flush_interval = "10ms"
[timeouts]
shutdown = "20s"
[[route]]
path = "/*"
files = "files"
"""


class Running:
    """One worker on a port of its own."""

    def __init__(
        self, folder: Path, *, shell: str = "", error: str = "-", listens: bool = True
    ) -> None:
        self.folder = folder
        (folder / "files").mkdir(exist_ok=True)
        (folder / "files" / "page.txt").write_text("hello")
        (folder / "files" / "large.bin").write_bytes(bytes(30_000_000))
        (folder / "proxy.toml").write_text(CONFIGURATION.replace("{error}", error))
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.ready_end, its_end = os.pipe()
        self.errors = (folder / "stderr").open("w+b")
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f'{shell} exec "$0" -m proxy.process.worker', sys.executable],
            stdin=subprocess.PIPE,
            stderr=self.errors,
            pass_fds=[self.listening.fileno(), its_end],
        )
        os.close(its_end)
        self.document = {
            "config": str(folder / "proxy.toml"),
            "worker": 0,
            "listeners": [{"fd": self.listening.fileno(), "index": 0}] if listens else [],
            "apps": {},
            "siblings": [],
            "tls": '{"secret": "", "day": 0, "listeners": {}}',
            "pulse_fd": its_end,
        }

    def begin(self) -> "Running":
        """Say what to serve, and let it begin when it is ready."""
        self.say_document()
        assert os.read(self.ready_end, len(READY)) == READY, self.said
        self.say(ACCEPT)
        return self

    def say_document(self) -> None:
        text = (self.folder / "proxy.toml").read_text()
        self.say(json.dumps(self.document | {"config_text": text}).encode() + b"\n")

    def say(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def logged(self) -> str:
        path = self.folder / "access.log"
        return path.read_text() if path.exists() else ""

    def get(self, path: str = "/page.txt") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def begin_large(self) -> socket.socket:
        """Ask for more than the sockets hold, and read only the beginning of it."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        client.sendall(b"GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.recv(10).startswith(b"HTTP/1.1")
        return client

    def accepts(self) -> bool:
        """Whether the worker still listens; `listening` itself stays open here."""
        with socket.socket() as probe:
            probe.settimeout(0.2)
            probe.connect(("127.0.0.1", self.port))
            probe.sendall(b"GET /page.txt HTTP/1.1\r\nHost: h\r\n\r\n")
            try:
                return bool(probe.recv(1))
            except TimeoutError:
                return False

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait(timeout=20)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.listening.close()
        self.errors.close()
        os.close(self.ready_end)


@pytest.fixture
def start(short: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(**options: object) -> Running:
        started.append(Running(short, **options))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for running in started:
        running.close()


def test_a_worker_says_that_it_is_ready_and_answers(start: Callable[..., Running]) -> None:
    worker = start().begin()
    assert worker.get() == b"hello"
    wait_for(lambda: "GET /page.txt" in worker.logged, "the log line")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_when_told_to(
    start: Callable[..., Running], number: signal.Signals
) -> None:
    worker = start().begin()
    with worker.begin_large():
        worker.signal(number)
        assert worker.end() == 0


def test_it_ends_with_its_master(start: Callable[..., Running]) -> None:
    worker = start().begin()
    worker.say(b"what a master never says\n")
    assert worker.get() == b"hello"
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.end() == 0


def test_it_finishes_what_it_began_when_there_is_time(start: Callable[..., Running]) -> None:
    worker = start().begin()
    with worker.begin_large() as client:
        worker.signal(signal.SIGQUIT)
        wait_for(lambda: not worker.accepts(), "the end of listening")
        assert worker.process.poll() is None
        left = 30_000_000
        while left > 0 and (data := client.recv(1 << 20)):
            left -= len(data)
        assert left <= 0
    assert worker.end() == 0
    assert "still open" not in worker.said


def test_who_is_in_a_hurry_may_say_so_again(start: Callable[..., Running]) -> None:
    worker = start().begin()
    with worker.begin_large():
        worker.signal(signal.SIGQUIT)
        wait_for(lambda: not worker.accepts(), "the end of listening")
        worker.signal(signal.SIGQUIT)  # the same again changes nothing
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0


def test_what_takes_longer_than_it_may_is_cut_off(start: Callable[..., Running]) -> None:
    worker = start()
    toml = worker.folder / "proxy.toml"
    toml.write_text(toml.read_text().replace('"20s"', '"200ms"'))
    worker.begin()
    with worker.begin_large():
        worker.signal(signal.SIGQUIT)
        assert worker.end() == 0
    assert "stopped with 1 connections still open" in worker.said


def test_logs_that_were_renamed_are_opened_again(start: Callable[..., Running]) -> None:
    worker = start(error="error.log").begin()
    worker.get()
    wait_for(lambda: worker.logged, "the log line")
    for name in ("access.log", "error.log"):
        (worker.folder / name).rename(worker.folder / f"{name}.1")
    worker.signal(signal.SIGUSR1)
    wait_for((worker.folder / "error.log").exists, "the new log")
    worker.get("/none")
    wait_for(lambda: "GET /none" in worker.logged, "a line in the new log")


def test_an_error_log_that_cannot_be_opened_again_goes_on(start: Callable[..., Running]) -> None:
    worker = start(error="logs/error.log")
    (worker.folder / "logs").mkdir()
    worker.begin()
    (worker.folder / "logs").rename(worker.folder / "old")
    worker.signal(signal.SIGUSR1)
    log = worker.folder / "old" / "error.log"
    wait_for(lambda: "the error log cannot be opened again" in log.read_text(), "the warning")
    assert worker.get() == b"hello"


def test_a_configuration_that_is_wrong_is_said_and_not_shown_as_a_traceback(
    start: Callable[..., Running],
) -> None:
    worker = start()
    (worker.folder / "proxy.toml").write_text("[server]\nworkrs = 1\n")
    worker.say_document()
    assert worker.end() == 1
    assert worker.said.startswith("proxyd: ")
    assert "Traceback" not in worker.said


def test_a_master_that_dies_before_it_spoke_is_no_error(start: Callable[..., Running]) -> None:
    worker = start()
    worker.say(b'{"half')
    assert worker.process.stdin is not None
    worker.process.stdin.close()
    assert worker.end() == 1
    assert "Traceback" not in worker.said


@pytest.mark.parametrize(
    ("limit", "warned"),
    [("ulimit -n 1000;", True), ("ulimit -Sn 100;", False), ("", False)],
)
def test_a_limit_of_open_files_is_raised_as_far_as_it_goes(
    start: Callable[..., Running], limit: str, warned: bool
) -> None:
    worker = start(shell=limit)
    text = (worker.folder / "proxy.toml").read_text()
    connections = 8192 if warned else 10
    (worker.folder / "proxy.toml").write_text(
        f"[server]\nworker_connections = {connections}\n{text}"
    )
    worker.begin()
    assert worker.get() == b"hello"
    assert ("only 1000 files may be open at once" in worker.said) == warned


def test_it_accepts_nobody_before_it_is_told_to(start: Callable[..., Running]) -> None:
    worker = start()
    worker.say_document()
    assert os.read(worker.ready_end, len(READY)) == READY
    assert not worker.accepts()
    worker.say(ACCEPT)
    assert worker.get() == b"hello"


def test_one_that_never_accepted_ends_as_well(start: Callable[..., Running]) -> None:
    worker = start()
    worker.say_document()
    assert os.read(worker.ready_end, len(READY)) == READY
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0


def test_it_shows_life_and_where_it_is_when_asked(start: Callable[..., Running]) -> None:
    worker = start().begin()
    assert os.read(worker.ready_end, 1) == b"\n"
    worker.signal(DUMP_SIGNAL)
    said = b""
    while b"in main" not in said:
        said += os.read(worker.ready_end, 65536)
    assert b"worker.py" in said
    assert worker.get() == b"hello"
