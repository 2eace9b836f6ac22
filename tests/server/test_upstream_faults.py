"""Upstreams that fail, and clients that leave: who learns what. RFC 9110 §9.2.2, §15.6."""

import json
import select
import socket
import sys
import threading
from contextlib import suppress

import pytest

from tests.server.daemon import Daemon
from tests.server.upstream import Upstream
from tests.server.wire import Wire


def idle_connection(daemon: Daemon, upstream: Upstream) -> Wire:
    """Return a connection of proxyd's that has served a request and waits for the next."""
    with daemon.connect() as wire:
        wire.get("/test/first")
        behind = upstream.accept()
        behind.message()
        behind.answer(b"first")
        assert wire.message().body == b"first"
    return behind


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_request_that_may_be_repeated_survives_the_end_of_an_idle_connection(
    daemon: Daemon, upstream: Upstream, method: str
) -> None:
    idle = idle_connection(daemon, upstream)
    with daemon.connect() as wire:
        wire.get("/test/again", method=method, body=b"" if method == "GET" else b"content")
        first = idle.message()
        idle.close()  # at the very moment in which the request came
        behind = upstream.accept()
        second = behind.message()
        assert (second.start, second.body) == (first.start, first.body)
        behind.answer(b"done")
        assert wire.message().body == b"done"


def test_a_post_is_not_repeated(daemon: Daemon, upstream: Upstream) -> None:
    idle = idle_connection(daemon, upstream)
    with daemon.connect() as wire:
        wire.get("/test/once", method="POST", body=b"an order")
        idle.message()
        idle.close()
        assert wire.message().status == 502
    assert not upstream.has_another()


def test_a_request_that_was_answered_in_part_is_not_repeated(
    daemon: Daemon, upstream: Upstream
) -> None:
    idle = idle_connection(daemon, upstream)
    with daemon.connect() as wire:
        wire.get("/test/part")
        idle.message()
        idle.send(b"HTTP/1.1 2")
        idle.close()
        assert wire.message().status == 502
    assert not upstream.has_another()


def test_a_new_connection_that_fails_is_not_tried_again(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        upstream.accept().close()
        assert wire.message().status == 502
    assert not upstream.has_another()


def test_an_upstream_that_closes_behind_each_answer_costs_nothing(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        for number in range(50):
            wire.get(f"/test/{number}", method="POST", body=b"an order")
            behind = upstream.accept()
            behind.message()
            behind.answer(b"done")
            behind.sock.shutdown(socket.SHUT_WR)
            answer = wire.message()
            assert (answer.status, answer.body) == (200, b"done")
            # A POST is not repeated, so proxyd must have seen the end before the next one comes: it
            # ends the connection as well then.
            assert behind.ended()
            behind.close()


PARTS = {
    "a length": b"Content-Length: 1000000\r\n\r\n" + b"x" * 1000,
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "half a chunk": b"Transfer-Encoding: chunked\r\n\r\n30\r\nabc",
    "no trailer": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
}


@pytest.mark.parametrize("route", ["/test/", "/direct/"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_an_answer_that_broke_off_never_looks_complete(
    daemon: Daemon, upstream: Upstream, route: str, part: bytes
) -> None:
    with daemon.connect() as wire:
        wire.get(route)
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\n" + part)
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        behind.close()
        rest = wire.rest()
        assert not rest.endswith(b"0\r\n\r\n")
        assert len(rest) < 1_000_000


def test_an_endless_answer_that_is_reset_never_looks_complete(
    daemon: Daemon, upstream: Upstream
) -> None:
    """Its end is the connection's, for the upstream; a client of HTTP/1.1 has chunks."""
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        wire.head()
        assert wire.chunk() == b"abc"
        behind.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        behind.close()
        assert wire.ended()


def test_an_http_1_0_client_is_reset_when_its_answer_breaks_off(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.send(b"GET /test/ HTTP/1.0\r\n\r\n")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        wire.head()
        assert wire.exactly(3) == b"abc"
        behind.close()
        with pytest.raises(ConnectionResetError):
            wire.sock.recv(1)


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "both lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\nabc",
    "a bare CR": b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 3\r\n\r\nabc",
    "a folded line": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 3\r\n\r\nabc",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    "nothing but interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200,
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_answer_is_a_502_and_costs_the_connection(
    daemon: Daemon, upstream: Upstream, sent: bytes
) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        behind.send(sent)
        while (answer := wire.head()).status == 103:
            pass
        assert answer.status == 502
        assert behind.ended()


def test_an_answer_that_nobody_asked_for_is_given_to_nobody(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get("/test/1")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none" * 2)
        assert wire.message().body == b"one"
        assert behind.ended()
        wire.get("/test/2")
        other = upstream.accept()
        assert other.message().start == "GET /test/2 HTTP/1.1"
        other.answer(b"two")
        assert wire.message().body == b"two"


@pytest.mark.parametrize(
    "accept", ["text/html,application/xhtml+xml,*/*;q=0.8", "application/json"]
)
def test_an_error_page_is_in_the_form_asked_for_and_keeps_the_reason_back(
    daemon: Daemon, accept: str
) -> None:
    since = len(daemon.log)
    answer = daemon.ask("/nobody", f"Accept: {accept}")
    assert answer.status == 502
    assert answer.get("cache-control") == "no-store"
    if accept == "application/json":
        assert answer.get("content-type") == "application/json"
        assert json.loads(answer.body)["status"] == 502
    else:
        assert answer.get("content-type") == "text/html; charset=utf-8"
        assert b"<h1>502 Bad Gateway</h1>" in answer.body
    for reason in (b"nobody.sock", b"such", str(daemon.folder).encode()):
        assert reason not in answer.body
    log = daemon.wait_for_log("there is no such socket; is it running", since)
    assert "ERROR worker 1: 502: upstream nobody" in log


def test_a_silent_upstream_is_a_504_and_costs_the_connection(
    daemon: Daemon, upstream: Upstream
) -> None:
    since = len(daemon.log)
    with daemon.connect() as wire:
        wire.get("/impatient/", "Accept: application/json")
        behind = upstream.accept()
        behind.message()
        answer = wire.message()
        assert answer.status == 504
        assert b"0.5" not in answer.body
        assert behind.ended()
        wire.get("/static/page.html")
        assert wire.message().status == 200
    daemon.wait_for_log("sent nothing for 0.5 s; raise read_timeout", since)


def test_an_upstream_that_falls_silent_breaks_the_answer_off(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get("/impatient/")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        assert wire.head().status == 200
        assert wire.rest() == b"abc"
        assert behind.ended()


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux drops what a full backlog has no room for"
)
def test_an_upstream_that_does_not_accept_is_a_504(daemon: Daemon) -> None:
    since = len(daemon.log)
    assert daemon.ask("/full").status == 504
    daemon.wait_for_log("did not accept a connection within 0.5 s", since)


def test_past_the_queue_a_request_is_told_to_come_back(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as first, daemon.connect() as one, daemon.connect() as other:
        first.get("/narrow/first")
        behind = upstream.accept()
        behind.message()
        for wire, path in ((one, "/narrow/one"), (other, "/narrow/other")):
            wire.get(path, "Accept: application/json")
        # One of the two waits; the other, whichever came later, has no room to.
        readable, _, _ = select.select([one.sock, other.sock], [], [], 10)
        refused, waits = (one, other) if readable == [one.sock] else (other, one)
        answer = refused.message()
        assert answer.status == 503
        assert answer.get("retry-after") == "1"
        assert json.loads(answer.body)["title"] == "Service Unavailable"
        behind.answer(b"first")
        assert first.message().body == b"first"
        path = "/narrow/one" if waits is one else "/narrow/other"
        assert behind.message().start == f"GET {path} HTTP/1.1"
        behind.answer(b"next")
        assert waits.message().body == b"next"


def test_a_client_that_leaves_the_queue_makes_room_in_it(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as first:
        first.get("/narrow/first")
        behind = upstream.accept()
        behind.message()
        for number in range(5):
            with daemon.connect() as waiting:
                waiting.get(f"/narrow/leaves-{number}")
            daemon.access(f"/narrow/leaves-{number}")
        with daemon.connect() as last:
            last.get("/narrow/last")
            behind.answer(b"first")
            assert behind.message().start == "GET /narrow/last HTTP/1.1"
            behind.answer(b"last")
            assert last.message().body == b"last"


def test_when_the_client_leaves_the_upstream_is_told_and_its_connection_not_used_again(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get("/test/left-before")
        behind = upstream.accept()
        behind.message()
    assert behind.ended()
    with suppress(OSError):
        behind.answer(b"too late, and a secret")
    assert daemon.access("/test/left-before")["status"] == 499
    with daemon.connect() as wire:
        wire.get("/test/next")
        other = upstream.accept()
        other.message()
        other.answer(b"mine")
        assert wire.message().body == b"mine"


@pytest.mark.parametrize("route", ["/test/", "/direct/"])
def test_a_client_that_leaves_in_the_middle_of_an_answer_ends_it(
    daemon: Daemon, upstream: Upstream, route: str
) -> None:
    with daemon.connect() as wire:
        wire.get(route)
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nabc")
        wire.head()
    assert behind.ended()


def test_a_client_that_leaves_in_the_middle_of_its_content_never_looks_complete(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get("/direct/", "Transfer-Encoding: chunked", method="POST")
        wire.send(b"3\r\nabc\r\n")
        behind = upstream.accept()
        behind.head()
        assert behind.chunk() == b"abc"
    assert behind.ended()


def test_an_upstream_may_answer_before_it_has_the_whole_request(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get("/direct/", "Content-Length: 1000000", method="POST")
        wire.send(b"the beginning")
        behind = upstream.accept()
        behind.head()
        assert behind.exactly(13) == b"the beginning"
        behind.answer(b"no", status="403 Forbidden")
        assert wire.message().status == 403
        assert behind.ended()


@pytest.mark.parametrize("route", ["/large/", "/direct/"])
def test_an_upstream_may_answer_while_it_reads_the_request(
    daemon: Daemon, upstream: Upstream, route: str
) -> None:
    """As `request.pipe(response)` does in Node, and any application that transforms a stream."""
    size = 8_000_000
    with daemon.connect() as wire:
        wire.get(route, f"Content-Length: {size}", method="POST")
        wire.send(b"x" * (size if route == "/large/" else 1000))
        behind = upstream.accept()
        behind.head()
        behind.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert wire.head().status == 200
        assert wire.chunk() == b"abc"
        rest = b"x" * (size - 1000) if route == "/direct/" else b""
        # Not all of it finds room on the way.
        sending = threading.Thread(target=wire.send, args=(rest,))
        sending.start()
        assert behind.exactly(size) == b"x" * size
        sending.join()
        behind.send(b"3\r\ndef\r\n0\r\n\r\n")
        assert wire.chunk() == b"def"
        assert wire.chunk() == b""


def test_an_answer_that_began_early_breaks_off_with_its_request(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get("/direct/", "Transfer-Encoding: chunked", method="POST")
        wire.send(b"3\r\nabc\r\n")
        behind = upstream.accept()
        behind.head()
        behind.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert wire.head().status == 200
        assert wire.chunk() == b"abc"
        wire.send(b"nonsense\r\n")
        assert wire.ended()
        assert behind.rest() == b"3\r\nabc\r\n"
