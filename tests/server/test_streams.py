"""Answers that are produced bit by bit, and connections that become something else."""

import socket

import pytest
from websockets.sync.client import connect as connect_websocket

from tests.server.daemon import Daemon
from tests.server.upstream import Upstream
from tests.server.wire import Wire

UPGRADE = ("Connection: Upgrade", "Upgrade: chat")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"


@pytest.mark.parametrize("prefix", ["", "/gevent", "/werkzeug"])
def test_events_arrive_as_they_are_produced(daemon: Daemon, prefix: str) -> None:
    with daemon.connect() as wire:
        wire.get(f"{prefix}/events/one", "Accept: text/event-stream")
        head = wire.head()
        assert head.get("content-type") == "text/event-stream; charset=utf-8"
        assert wire.chunk() == b"data: first\n\n"
        # The second does not exist before this request is through, beside the stream.
        assert daemon.ask(f"{prefix}/open/one", method="POST").status == 200
        assert wire.chunk() == b"data: second\n\n"
        assert wire.chunk() == b""


@pytest.mark.parametrize("route", ["/test/", "/direct/"])
@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 6", None])
def test_each_piece_of_an_answer_reaches_the_client_at_once(
    daemon: Daemon, upstream: Upstream, route: str, framing: str | None
) -> None:
    chunked = framing is not None and "chunked" in framing
    with daemon.connect() as wire:
        wire.get(route)
        behind = upstream.accept()
        behind.message()
        behind.send(f"HTTP/1.1 200 OK\r\n{framing or 'X: y'}\r\n\r\n".encode())
        head = wire.head()
        for piece in (b"abc", b"def"):
            behind.send(b"3\r\n%b\r\n" % piece if chunked else piece)
            assert (wire.exactly(3) if head.get("content-length") else wire.chunk()) == piece


def switched(daemon: Daemon, upstream: Upstream, wire: Wire) -> Wire:
    """Ask for another protocol and get it; return the upstream's end."""
    wire.get("/test/", *UPGRADE)
    behind = upstream.accept()
    request = behind.message()
    assert request.get("upgrade") == "chat"
    assert request.get("connection") == "upgrade"
    behind.send(SWITCH)
    answer = wire.head()
    assert answer.status == 101
    assert answer.get("upgrade") == "chat"
    return behind


def test_a_websocket_talks_both_ways(daemon: Daemon) -> None:
    url = daemon.url.replace("http:", "ws:") + "/websocket"
    with connect_websocket(url, proxy=None) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=10) == "HELLO"
        websocket.send("x" * 1_000_000)
        assert websocket.recv(timeout=10) == "X" * 1_000_000
        websocket.send(b"\0\xff")
        assert websocket.recv(timeout=10) == b"\0\xff"
    assert daemon.access("/websocket")["status"] == 101


def test_two_websockets_do_not_mix(daemon: Daemon) -> None:
    url = daemon.url.replace("http:", "ws:") + "/websocket"
    with connect_websocket(url, proxy=None) as one, connect_websocket(url, proxy=None) as other:
        one.send("one")
        other.send("other")
        assert other.recv(timeout=10) == "OTHER"
        assert one.recv(timeout=10) == "ONE"


def test_bytes_that_come_with_the_upgrade_are_not_lost(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.send(
            b"GET /test/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nearly"
        )
        behind = upstream.accept()
        behind.message()
        behind.send(SWITCH + b"bird")
        wire.head()
        assert wire.exactly(4) == b"bird"
        assert behind.exactly(5) == b"early"


def test_a_client_that_has_said_all_still_hears(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        behind = switched(daemon, upstream, wire)
        wire.send(b"last words")
        wire.sock.shutdown(socket.SHUT_WR)
        assert behind.rest() == b"last words"
        behind.send(b"an answer")
        behind.close()
        assert wire.rest() == b"an answer"


def test_an_upstream_that_has_said_all_still_hears(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        behind = switched(daemon, upstream, wire)
        behind.send(b"last words")
        behind.sock.shutdown(socket.SHUT_WR)
        assert wire.rest() == b"last words"
        wire.send(b"an answer")
        wire.close()
        assert behind.rest() == b"an answer"


def test_a_tunnel_ends_when_the_client_is_gone(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        behind = switched(daemon, upstream, wire)
        behind.send(b"unread")
    assert behind.ended()


def test_a_slow_end_of_a_tunnel_holds_the_other_back(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        behind = switched(daemon, upstream, wire)
        behind.sock.setblocking(False)
        sent = 0
        piece = bytes(range(256)) * 256
        # Until a second passes in which nothing more is taken: buffers are full, and none grows.
        while True:
            try:
                sent += behind.sock.send(piece[sent % len(piece) :])
            except BlockingIOError:
                behind.sock.settimeout(1)
                try:
                    sent += behind.sock.send(piece[sent % len(piece) :])
                except TimeoutError:
                    break
                behind.sock.setblocking(False)
            assert sent < 256 << 20, "nothing holds the upstream back"
        behind.sock.settimeout(10)
        behind.sock.shutdown(socket.SHUT_WR)
        received = wire.rest()
        assert len(received) == sent
        assert received == (piece * (sent // len(piece) + 1))[:sent]


def test_an_upstream_may_decline_an_upgrade(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/", *UPGRADE)
        behind = upstream.accept()
        behind.message()
        behind.answer(b"not today", status="426 Upgrade Required")
        assert (answer := wire.message()).status == 426
        assert answer.body == b"not today"
        wire.get("/static/page.html")
        assert wire.message().status == 200


def test_an_upgrade_that_nobody_asked_for_is_a_502(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        behind.send(SWITCH)
        assert wire.message().status == 502
        assert behind.ended()


def test_http_2_in_the_clear_is_no_way_around_the_routes(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get(
            "/test/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A"
        )
        behind = upstream.accept()
        request = behind.message()
        assert request.get("upgrade") is None
        assert request.get("http2-settings") is None
