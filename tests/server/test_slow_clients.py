"""Clients and upstreams that are slower than the other side, and disks that are full."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.daemon import Daemon
from tests.server.upstream import Upstream
from tests.server.wire import Wire

MIB = 1 << 20
PATTERN = b"0123456789abcdef" * 65536
# What the kernels of both ends may hold of one connection, generously.
SOCKETS_BYTES = 32 * MIB

ONE_THREAD = """
[[listen]]
address = "127.0.0.1:0"
[app.lonely]
wsgi = "application:app"
threads = 1
[[route]]
path = "/*"
to = "lonely"
body_limit = "3GiB"
"""


def send_until_held_back(wire: Wire, pattern: bytes = PATTERN) -> int:
    """Send `pattern` again and again until for a second nothing more is taken; return how much."""
    wire.sock.settimeout(1)
    sent = 0
    while sent < 256 * MIB:
        try:
            sent += wire.sock.send(pattern[sent % len(pattern) :])
        except TimeoutError:
            return sent
    raise AssertionError("nothing holds the sender back")


def check_pattern(data: bytes, size: int) -> None:
    assert len(data) == size
    assert data == (PATTERN * (size // MIB + 1))[:size]


def test_a_client_that_does_not_read_holds_no_thread(daemon: Daemon) -> None:
    size = 48 * MIB  # more than the sockets on the way and Waitress's own buffers hold
    with daemon.connect() as slow:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.get(f"/lonely/bytes/{size}")
        assert slow.head().status == 200
        assert daemon.ask("/lonely/pid").status == 200  # by the only thread
        check_pattern(slow.exactly(size), size)


def test_a_client_that_sends_slowly_holds_no_thread(daemon: Daemon) -> None:
    content = os.urandom(300_000)
    with daemon.connect() as slow:
        slow.get("/lonely/digest", "Content-Length: 300000", method="POST")
        for begin in range(0, 300_000, 60_000):
            slow.send(content[begin : begin + 60_000])
            assert daemon.ask("/lonely/pid").status == 200
        digest = json.loads(slow.message().body)
    assert digest == {"length": 300_000, "sha256": hashlib.sha256(content).hexdigest()}


def test_the_upstream_sees_nothing_of_a_request_before_all_of_it_is_here(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as slow:
        slow.get("/test/", "Content-Length: 10", method="POST")
        slow.send(b"12345")
        assert daemon.ask("/static/page.html").status == 200
        assert not upstream.has_another()
        slow.send(b"67890")
        behind = upstream.accept()
        assert behind.message().body == b"1234567890"


@pytest.mark.parametrize("framing", ["Content-Length: 6", "Transfer-Encoding: chunked"])
def test_without_buffer_request_each_piece_goes_through_at_once(
    daemon: Daemon, upstream: Upstream, framing: str
) -> None:
    chunked = "chunked" in framing
    with daemon.connect() as wire:
        wire.get("/direct/", framing, method="POST")
        behind = upstream.accept()
        assert f"{framing}\r\n".encode() in behind.until(b"\r\n\r\n")
        for piece in (b"abc", b"def"):
            wire.send(b"3\r\n%b\r\n" % piece if chunked else piece)
            assert (behind.chunk() if chunked else behind.exactly(3)) == piece
        if chunked:
            wire.send(b"0\r\n\r\n")
            assert behind.chunk() == b""
            assert behind.trailers() == []
        behind.answer(b"done")
        assert wire.message().body == b"done"


def test_without_buffer_response_a_slow_client_holds_the_upstream_back(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as slow:
        slow.get("/direct/")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\n\r\n")
        sent = send_until_held_back(behind)
        assert sent < SOCKETS_BYTES
        behind.close()
        received = slow.head()
        while data := slow.chunk():
            received.body += data
        check_pattern(received.body, sent)


def test_past_buffer_response_a_slow_client_holds_the_upstream_back(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as slow:
        slow.get("/test/")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        sent = send_until_held_back(behind)
        assert 64 * MIB <= sent < 64 * MIB + SOCKETS_BYTES
        behind.close()
        received = slow.rest()
        assert len(received) < 1 << 40


def test_a_slow_upstream_holds_the_client_back(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/direct/", f"Content-Length: {256 * MIB}", method="POST")
        behind = upstream.accept()
        behind.head()
        sent = send_until_held_back(wire)
        assert sent < SOCKETS_BYTES
        check_pattern(behind.exactly(sent), sent)


def test_a_client_that_pipelines_and_never_reads_is_held_back(daemon: Daemon) -> None:
    requests = b"GET /static/style.css HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
    with daemon.connect() as wire:
        assert send_until_held_back(wire, requests) < SOCKETS_BYTES


@pytest.fixture
def tiny_disk(start: Callable[..., Daemon]) -> Iterator[Daemon]:
    """Run a proxyd whose spooled bodies have a disk of one MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a file system of a given size needs root on Linux")
    running = start(ONE_THREAD)
    disk: Path = running.folder / "var" / "tmp"
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield running
        assert running.stop() == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_upload_that_the_disk_has_no_room_for_is_refused_with_the_reason_in_the_log(
    tiny_disk: Daemon,
) -> None:
    answer = tiny_disk.ask("/digest", "Accept: application/json", method="POST", body=PATTERN * 4)
    assert answer.status in {500, 507}
    assert b"No space" not in answer.body
    tiny_disk.wait_for_log("No space left on device")
    # What fits is taken again: nothing of the refused one is left.
    digest = json.loads(tiny_disk.ask("/digest", method="POST", body=PATTERN[:500_000]).body)
    assert digest["length"] == 500_000


def test_an_answer_that_the_disk_has_no_room_for_waits_and_arrives_whole(
    tiny_disk: Daemon,
) -> None:
    size = 48 * MIB
    with tiny_disk.connect() as slow:
        slow.get(f"/bytes/{size}")
        tiny_disk.wait_for_log("No space left on device")
        assert slow.head().status == 200
        check_pattern(slow.exactly(size), size)
    assert tiny_disk.ask("/pid").status == 200
