"""Clients that keep proxyd waiting; each of its patiences is one second here."""

import time
from collections.abc import Iterator

import pytest

from tests.process.running import wait_for
from tests.server.daemon import Daemon, serving
from tests.server.upstream import Upstream

# One second, the timer's steps, and a slow machine.
SOON_S = 5

HASTY = """
[[listen]]
address = "127.0.0.1:0"
[timeouts]
header = "1s"
body = "1s"
keepalive = "1s"
send = "1s"
tunnel = "1s"
linger = "1s"
[upstream.test]
servers = ["127.0.0.1:{port}"]
max_connections = 1
queue_timeout = "500ms"
[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/*"
to = "test"
"""


@pytest.fixture(scope="module")
def hasty(listening: Upstream) -> Iterator[Daemon]:
    with serving(HASTY.replace("{port}", str(listening.port))) as running:
        large = running.folder / "static" / "large.bin"
        with large.open("wb") as file:
            file.truncate(1 << 30)
        yield running
        assert running.stop() == 0
        running.check_clean()


@pytest.fixture
def upstream(listening: Upstream) -> Iterator[Upstream]:
    yield listening
    listening.forget()


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Assert that nobody waited for much longer than a second."""
    began_at = time.monotonic()
    yield
    assert time.monotonic() - began_at < SOON_S


def test_half_a_head_is_a_408(hasty: Daemon) -> None:
    with hasty.connect() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert wire.message().status == 408
        assert wire.ended()


def test_a_head_that_drips_has_no_more_time_than_others(hasty: Daemon) -> None:
    with hasty.connect() as wire:
        wire.send(b"GET / HTTP/1.1\r\nA: ")
        wire.sock.settimeout(0.05)
        while not wire.held:
            try:
                wire.held = wire.sock.recv(65536)
            except TimeoutError:
                wire.send(b"x")
        assert wire.held.startswith(b"HTTP/1.1 408 ")


def test_content_that_stops_coming_is_a_408(hasty: Daemon, upstream: Upstream) -> None:
    with hasty.connect() as wire:
        wire.get("/", "Content-Length: 10", method="POST")
        wire.send(b"12345")
        assert wire.message().status == 408
        assert wire.ended()
    assert not upstream.has_another()


def test_a_connection_without_a_request_is_closed_without_a_word(hasty: Daemon) -> None:
    with hasty.connect() as wire:
        assert wire.ended()


def test_an_idle_connection_is_closed_without_a_word(hasty: Daemon) -> None:
    with hasty.connect() as wire:
        wire.get("/static/page.html")
        assert wire.message().status == 200
        assert wire.ended()


def test_a_client_that_reads_nothing_is_given_up(hasty: Daemon) -> None:
    with hasty.connect() as wire:
        wire.get("/static/large.bin")
        assert hasty.access("/static/large.bin")["bytes"] < 1 << 30
        assert len(wire.rest()) < 1 << 30


def test_a_tunnel_on_which_nothing_moves_is_ended(hasty: Daemon, upstream: Upstream) -> None:
    with hasty.connect() as wire:
        wire.get("/", "Connection: upgrade", "Upgrade: chat")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\n\r\n")
        assert wire.head().status == 101
        assert wire.ended()
        assert behind.ended()


def test_a_request_does_not_wait_for_a_connection_for_ever(
    hasty: Daemon, upstream: Upstream
) -> None:
    with hasty.connect() as first, hasty.connect() as second:
        first.get("/first")
        behind = upstream.accept()
        behind.message()
        second.get("/second")
        answer = second.message()
        assert answer.status == 503
        assert answer.get("retry-after") == "1"
        behind.answer(b"first")
        assert first.message().body == b"first"


def test_an_application_has_more_time_than_its_client(hasty: Daemon, upstream: Upstream) -> None:
    """The idle time of a client does not run while it waits for its answer."""
    with hasty.connect() as wire, hasty.connect() as other:
        wire.get("/slow")
        behind = upstream.accept()
        behind.message()
        assert other.ended()  # a connection that came later has been idle for too long meanwhile
        behind.answer(b"at last")
        assert wire.message().body == b"at last"


def test_a_client_that_goes_on_sending_after_its_answer_is_cut_off(hasty: Daemon) -> None:
    with hasty.connect() as wire:
        wire.send(b"nonsense\r\n\r\n")
        assert wire.message().status == 400

        def cut_off() -> bool:
            try:
                wire.send(b"more nonsense")
            except ConnectionError:
                return True
            return False

        wait_for(cut_off, "the end of the connection")
