"""What goes through proxyd unchanged, and what must not. RFC 9110 §7.6, RFC 9112."""

import pytest

from tests.server.daemon import Daemon
from tests.server.upstream import Upstream
from tests.server.wire import Lines

UNKNOWN: Lines = [
    ("x-b", "2"), ("X-A", "1"), ("x-b", "3"), ("X_Under", "s"), ("X-Empty", ""),
    ("X-Latin", "caf\xe9"), ("X-B", "4"), ("!#$%&'*+-.^`|~", "any token"),
]  # fmt: skip


def encoded(lines: Lines) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")


def only(lines: Lines, names: Lines) -> Lines:
    """Return the lines whose names are in `names`."""
    wanted = {name for name, _ in names}
    return [line for line in lines if line[0] in wanted]


@pytest.mark.parametrize(
    "method", ["GET", "BREW", "get", "M-SEARCH", "PROPFIND", "!#$%&'*+-.^_`|~"]
)
def test_any_method_is_passed_on(daemon: Daemon, upstream: Upstream, method: str) -> None:
    with daemon.connect() as wire:
        wire.get("/test/?a=b", method=method)
        behind = upstream.accept()
        assert behind.message().start == f"{method} /test/?a=b HTTP/1.1"
        behind.answer(b"done")
        assert wire.message().body == b"done"


@pytest.mark.parametrize(
    "status",
    ["200 OK", "203 Perhaps", "299 Strange", "402", "418 I'm a teapot", "599 ", "999 Caf\xe9"],
)
def test_any_status_is_passed_on(daemon: Daemon, upstream: Upstream, status: str) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        behind.send(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode("latin-1"))
        answer = wire.message()
        assert answer.status == int(status[:3])
        if status[4:]:
            assert answer.start == f"HTTP/1.1 {status}"
        assert answer.body == b"ok"


def test_unknown_fields_go_both_ways_unchanged_and_in_order(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.send(b"GET /test/ HTTP/1.1\r\nHost: a\r\n%b\r\n" % encoded(UNKNOWN))
        behind = upstream.accept()
        assert only(behind.message().fields, UNKNOWN) == UNKNOWN
        behind.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: 0\r\n\r\n" % encoded(UNKNOWN))
        assert only(wire.message().fields, UNKNOWN) == UNKNOWN


def test_fields_of_one_hop_stay_on_it(daemon: Daemon, upstream: Upstream) -> None:
    hop = (
        "Connection: close, X-Secret", "X-Secret: s", "Keep-Alive: timeout=5", "TE: gzip",
        "Proxy-Authorization: Basic YTpi", "Proxy-Connection: keep-alive", "Upgrade: h2c",
    )  # fmt: skip
    with daemon.connect() as wire:
        wire.get("/test/", *hop)
        behind = upstream.accept()
        names = {name.lower() for name, _ in behind.message().fields}
        assert names.isdisjoint({line.partition(":")[0].lower() for line in hop})
        inner = ("Connection: X-Inner", "X-Inner: s", "Keep-Alive: timeout=5", "X-Outer: o")
        behind.answer(b"", *inner)
        answer = wire.message()
        assert answer.get("x-inner") is None
        assert answer.get("keep-alive") is None
        assert answer.get("x-outer") == "o"
        assert answer.get("connection") == "close"


def test_server_and_via_say_who_was_there(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        date = "Mon, 01 Jan 2024 00:00:00 GMT"
        behind.answer(b"", "Server: secret/1.0", "Via: 1.1 inner", f"Date: {date}")
        answer = wire.message()
        assert answer.get("server") == "proxyd"
        assert answer.get("via") == "1.1 inner, 1.1 proxyd"
        assert answer.get("date") == date


def test_the_target_is_passed_on_normalised_with_its_query_as_it_is(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.get("/static/..//test/%7euser/./%2f%e4?a=%7e&b=/../&c")
        assert wire.message().status == 404  # "//test/…" is for the application
        wire.get("/static/../test/%7euser/./%2f%e4?a=%7e&b=/../&c")
        behind = upstream.accept()
        assert behind.head().start == "GET /test/~user/%2F%E4?a=%7e&b=/../&c HTTP/1.1"


def test_interim_answers_are_passed_on(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        for link in ("</a.css>; rel=preload", "</b.css>; rel=preload"):
            behind.send(f"HTTP/1.1 103 Early Hints\r\nLink: {link}\r\n\r\n".encode())
            hint = wire.head()
            assert (hint.status, hint.fields) == (103, [("Link", link)])
        behind.send(b"HTTP/1.1 100 Continue\r\n\r\n")  # between the upstream and proxyd
        behind.answer(b"done")
        assert wire.message().body == b"done"


def test_an_http_1_0_client_gets_no_interim_answers(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.send(b"GET /test/ HTTP/1.0\r\n\r\n")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        behind.answer(b"done")
        assert wire.message().status == 200


@pytest.mark.parametrize("route", ["/test/", "/direct/"])
def test_trailers_of_a_request_are_passed_on(
    daemon: Daemon, upstream: Upstream, route: str
) -> None:
    with daemon.connect() as wire:
        wire.get(route, "Transfer-Encoding: chunked", "Trailer: Checksum", method="POST")
        wire.send(b"3\r\nabc\r\n0\r\nChecksum: 42\r\nContent-Length: 7\r\n\r\n")
        behind = upstream.accept()
        request = behind.message()
        assert request.body == b"abc"
        assert request.trailers == [("Checksum", "42")]
        assert request.get("trailer") == "Checksum"
        behind.answer(b"done")
        assert wire.message().body == b"done"


@pytest.mark.parametrize("at_once", [True, False])
def test_trailers_of_an_answer_are_passed_on(
    daemon: Daemon, upstream: Upstream, at_once: bool
) -> None:
    with daemon.connect() as wire:
        wire.get("/test/", "TE: trailers")
        behind = upstream.accept()
        assert behind.message().get("te") == "trailers"
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\n\r\n"
        rest = b"3\r\nabc\r\n0\r\nChecksum: 42\r\n\r\n"
        if at_once:
            behind.send(head + rest)
            answer = wire.message()
        else:
            behind.send(head)
            answer = wire.head()
            behind.send(rest)
            answer.body = wire.chunk()
            assert wire.chunk() == b""
            answer.trailers = wire.trailers()
        assert (answer.body, answer.trailers) == (b"abc", [("Checksum", "42")])
        assert answer.get("trailer") == "Checksum"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_content_has_none(
    daemon: Daemon, upstream: Upstream, status: str
) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        behind.send(f'HTTP/1.1 {status}\r\nETag: "a"\r\n\r\n'.encode())
        answer = wire.message()
        assert (answer.get("etag"), answer.body) == ('"a"', b"")
        assert answer.get("content-length") is None
        wire.get("/static/page.html")  # nothing stands between the two
        assert wire.message().status == 200


def test_head_keeps_the_length_that_the_upstream_says(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/", method="HEAD")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        assert wire.message(bodiless=True).get("content-length") == "12345"
        wire.get("/static/page.html")
        assert wire.message().status == 200


def test_an_upstream_of_http_1_0_is_understood(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        behind.close()
        answer = wire.message()
        assert answer.body == b"until the end"
        assert answer.get("transfer-encoding") == "chunked"
        assert answer.get("via") == "1.0 proxyd"


def test_a_connection_to_the_upstream_is_used_again(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/1")
        behind = upstream.accept()
        behind.message()
        behind.answer(b"one")
        assert wire.message().body == b"one"
    with daemon.connect() as wire:
        wire.get("/test/2")
        assert behind.message().start == "GET /test/2 HTTP/1.1"
        behind.answer(b"two")
        assert wire.message().body == b"two"
    assert not upstream.has_another()
