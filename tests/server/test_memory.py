"""A worker's memory while 2 GiB pass through it, each way that there is.

The bound: what it holds grows by less than GROWTH_KIB at any moment. That is room for the buffers
of one connection on both sides (64 KiB each to write, 256 KiB to read, 64 KiB and 512 KiB of a
spooled body) and for what Python's allocator and the system's keep back.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.running import wait_for
from tests.server.daemon import Daemon, forget_peak, memory_kib
from tests.server.upstream import Upstream
from tests.server.wire import Wire

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc"),
    pytest.mark.timeout(120),
]

SIZE = 2 << 30
GROWTH_KIB = 24 * 1024


@contextmanager
def flat(daemon: Daemon) -> Iterator[None]:
    """Assert that the worker's memory stays where it is."""
    pid = daemon.pid("worker 1")
    forget_peak(pid)
    before = memory_kib(pid)
    yield
    growth = memory_kib(pid, "VmHWM") - before
    assert growth < GROWTH_KIB, f"the worker grew by {growth} KiB"


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do `work` in a thread, and pass on what it raises."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]


@pytest.fixture(scope="module")
def large(daemon: Daemon) -> Path:
    """Give a file of 2 GiB that takes no room on the disk."""
    path = daemon.folder / "static" / "large.bin"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


def drain(wire: Wire, size: int) -> int:
    """Read and throw away `size` bytes; return how many came before the end."""
    missing = size - len(wire.held)
    wire.held = b""
    buffer = bytearray(1 << 20)
    while missing > 0 and (count := wire.sock.recv_into(buffer, min(missing, len(buffer)))):
        missing -= count
    return size - missing


@pytest.mark.parametrize("route", ["/large/", "/direct/"])
def test_an_upload(daemon: Daemon, upstream: Upstream, large: Path, route: str) -> None:
    def send() -> None:
        wire.get(route, f"Content-Length: {SIZE}", method="POST")
        with large.open("rb") as file:
            wire.sock.sendfile(file)

    upstream.listener.settimeout(60)
    with daemon.connect() as wire, flat(daemon), beside(send):
        wire.sock.settimeout(60)
        behind = upstream.accept()
        assert behind.head().get("content-length") == str(SIZE)
        assert drain(behind, SIZE) == SIZE
        behind.answer(b"done")
        assert wire.message().body == b"done"


def test_a_download_from_files(daemon: Daemon, large: Path) -> None:
    with daemon.connect() as wire, flat(daemon):
        wire.get(f"/static/{large.name}")
        assert wire.head().get("content-length") == str(SIZE)
        assert drain(wire, SIZE) == SIZE


@pytest.mark.parametrize("route", ["/test/", "/direct/"])
def test_a_download_from_an_upstream(
    daemon: Daemon, upstream: Upstream, large: Path, route: str
) -> None:
    def answer() -> None:
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        with large.open("rb") as file:
            behind.sock.sendfile(file)

    with daemon.connect() as wire, flat(daemon), beside(answer):
        wire.get(route)
        assert wire.head().get("content-length") == str(SIZE)
        assert drain(wire, SIZE) == SIZE


def test_a_download_of_unknown_length(daemon: Daemon, upstream: Upstream, large: Path) -> None:
    def answer() -> None:
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\n\r\n")
        with large.open("rb") as file:
            behind.sock.sendfile(file)
        behind.close()

    with daemon.connect() as wire, flat(daemon), beside(answer):
        wire.send(b"GET /test/ HTTP/1.0\r\n\r\n")
        assert wire.head().status == 200
        assert drain(wire, SIZE + 1) == SIZE


def test_many_clients_that_do_not_read(daemon: Daemon, large: Path) -> None:
    """Each of 100 holds its bounded buffers, and not a file of 2 GiB."""
    wires = [daemon.connect() for _ in range(100)]
    with flat(daemon):
        for wire in wires:
            wire.get(f"/static/{large.name}")
        for wire in wires:
            assert wire.head().status == 200
    for wire in wires:
        wire.close()


def test_no_descriptor_is_left_behind(daemon: Daemon, upstream: Upstream) -> None:
    pid = daemon.pid("worker 1")
    folder = f"/proc/{pid}/fd"
    assert daemon.ask("/static/page.html").status == 200
    upstream.forget()
    before = len(os.listdir(folder))
    for _ in range(20):
        with daemon.connect() as wire:
            wire.get("/large/", "Content-Length: 200000", method="POST")
            wire.send(b"x" * 150_000)
    wait_for(lambda: len(os.listdir(folder)) <= before, "all descriptors to be closed")
