"""What no well-behaved client sends, and what old and impatient ones do. RFC 9112."""

import time

import pytest

from tests.server.daemon import Daemon
from tests.server.upstream import Upstream

HOST = b"Host: proxyd.test\r\n"
GET = b"GET /static/page.html HTTP/1.1\r\n" + HOST

# Bytes, the status that they get, and where it stands. `/test/` leads to an upstream, which must
# not hear of any of these.
BAD = {
    "both lengths": (
        b"POST /test/ HTTP/1.1\r\n%bContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
    ),
    "two different lengths": (
        b"POST /test/ HTTP/1.1\r\n%bContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400,
    ),
    "the same length twice": (
        b"POST /test/ HTTP/1.1\r\n%bContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400,
    ),
    "a list of lengths": (b"POST /test/ HTTP/1.1\r\n%bContent-Length: 3, 3\r\n\r\n", 400),
    "a negative length": (b"POST /test/ HTTP/1.1\r\n%bContent-Length: -1\r\n\r\n", 400),
    "a signed length": (b"POST /test/ HTTP/1.1\r\n%bContent-Length: +3\r\n\r\n", 400),
    "a hexadecimal length": (b"POST /test/ HTTP/1.1\r\n%bContent-Length: 0x3\r\n\r\n", 400),
    "a length with an underscore": (b"POST /test/ HTTP/1.1\r\n%bContent-Length: 1_0\r\n\r\n", 400),
    "an empty length": (b"POST /test/ HTTP/1.1\r\n%bContent-Length: \r\n\r\n", 400),
    "a length that overflows": (
        b"POST /test/ HTTP/1.1\r\n%bContent-Length: 18446744073709551617\r\n\r\n", 400,
    ),
    "chunked is not last": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: chunked, gzip\r\n\r\n", 400,
    ),
    "chunked twice": (
        b"POST /test/ HTTP/1.1\r\n%b" + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", 400,
    ),
    "an unknown coding": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: gzip, chunked\r\n\r\n", 501,
    ),
    "a coding with a vertical tab": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: \x0bchunked\r\n\r\n", 400,
    ),
    "chunked in HTTP/1.0": (
        b"POST /test/ HTTP/1.0\r\n%bTransfer-Encoding: chunked\r\n\r\n", 400,
    ),
    "a chunk size that is none": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400,
    ),
    "a chunk size with a prefix": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n", 400,
    ),
    "a chunk longer than its size": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400,
    ),
    "a chunk line that ends in a bare LF": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n", 400,
    ),
    "a chunk line without an end": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n3;" + b"x" * 5000, 400,
    ),
    "trailers without an end": (
        b"POST /test/ HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * 9000, 400,
    ),
    "a bare LF behind the request line": (b"GET /test/ HTTP/1.1\n%b\r\n", 400),
    "a bare LF behind a field": (b"GET /test/ HTTP/1.1\r\n%bA: b\n\r\n", 400),
    "a bare CR in a field": (b"GET /test/ HTTP/1.1\r\n%bA: b\rc\r\n\r\n", 400),
    "a bare CR in the request line": (b"GET /test/\r HTTP/1.1\r\n%b\r\n", 400),
    "a folded line": (b"GET /test/ HTTP/1.1\r\n%bA: b\r\n c\r\n\r\n", 400),
    "a space before the colon": (b"GET /test/ HTTP/1.1\r\n%bA : b\r\n\r\n", 400),
    "a space before the first field": (b"GET /test/ HTTP/1.1\r\n %b\r\n", 400),
    "a field without a colon": (b"GET /test/ HTTP/1.1\r\n%bA\r\n\r\n", 400),
    "a field without a name": (b"GET /test/ HTTP/1.1\r\n%b: b\r\n\r\n", 400),
    "a field name that is no token": (b"GET /test/ HTTP/1.1\r\n%bA(: b\r\n\r\n", 400),
    "NUL in a field": (b"GET /test/ HTTP/1.1\r\n%bA: b\0c\r\n\r\n", 400),
    "a control byte in a field": (b"GET /test/ HTTP/1.1\r\n%bA: b\x01c\r\n\r\n", 400),
    "no Host": (b"GET /test/ HTTP/1.1\r\n\r\n", 400),
    "an empty Host": (b"GET /test/ HTTP/1.1\r\nHost: \r\n\r\n", 400),
    "two Hosts": (b"GET /test/ HTTP/1.1\r\n%bHost: other.test\r\n\r\n", 400),
    "a Host with a path": (b"GET /test/ HTTP/1.1\r\nHost: a.test/b\r\n\r\n", 400),
    "a Host with a user": (b"GET /test/ HTTP/1.1\r\nHost: a@b.test\r\n\r\n", 400),
    "a Host with a port that is none": (b"GET /test/ HTTP/1.1\r\nHost: a.test:99999\r\n\r\n", 400),
    "a method that is no token": (b"G(T /test/ HTTP/1.1\r\n%b\r\n", 400),
    "no method": (b" /test/ HTTP/1.1\r\n%b\r\n", 400),
    "two spaces": (b"GET  /test/ HTTP/1.1\r\n%b\r\n", 400),
    "CONNECT": (b"CONNECT a.test:443 HTTP/1.1\r\n%b\r\n", 405),
    "TRACE": (b"TRACE /test/ HTTP/1.1\r\n%bConnection: close\r\n\r\n", 405),
    "a control byte in the target": (b"GET /test/\x01 HTTP/1.1\r\n%b\r\n", 400),
    "a byte beyond ASCII in the target": (b"GET /test/\xe4 HTTP/1.1\r\n%b\r\n", 400),
    "a fragment in the target": (b"GET /test/#a HTTP/1.1\r\n%b\r\n", 400),
    "a broken escape in the target": (b"GET /test/%%zz HTTP/1.1\r\n%b\r\n", 400),
    "NUL in the target, escaped": (b"GET /test/%%00 HTTP/1.1\r\n%b\r\n", 400),
    "a target without a slash": (b"GET test HTTP/1.1\r\n%b\r\n", 400),
    "an asterisk for another method": (b"GET * HTTP/1.1\r\n%b\r\n", 400),
    "an absolute target that is not http": (b"GET ftp://a.test/ HTTP/1.1\r\n%b\r\n", 400),
    "HTTP/0.9": (b"GET /test/\r\n", 400),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.0": (b"GET /test/ HTTP/3.0\r\n%b\r\n", 505),
    "a version that is none": (b"GET /test/ HTTP/1.x\r\n%b\r\n", 400),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    "a request line that is too long": (b"GET /test/" + b"x" * 8192 + b" HTTP/1.1\r\n%b\r\n", 414),
    "a request line without an end": (b"GET /test/" + b"x" * 9000, 414),
    "fields that are too large": (
        b"GET /test/ HTTP/1.1\r\n%b" + b"A: %b\r\n" % (b"x" * 4096) * 9 + b"\r\n", 431,
    ),
    "fields without an end": (b"GET /test/ HTTP/1.1\r\n%bA: " + b"x" * 33000, 431),
    "too many fields": (b"GET /test/ HTTP/1.1\r\n%b" + b"A: b\r\n" * 100 + b"\r\n", 431),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "status"), BAD.values(), ids=BAD.keys())
def test_bad_input_gets_its_status_and_a_closed_connection_at_once(
    daemon: Daemon, upstream: Upstream, sent: bytes, status: int
) -> None:
    began_at = time.monotonic()
    with daemon.connect() as wire:
        wire.send(sent.replace(b"%b", HOST).replace(b"%%", b"%"))
        answer = wire.message()
        assert answer.status == status
        assert answer.get("connection") == "close"
        assert wire.ended()
    assert time.monotonic() - began_at < 1
    assert not upstream.has_another()


def test_a_request_smuggled_behind_a_doubtful_one_is_never_read(
    daemon: Daemon, upstream: Upstream
) -> None:
    with daemon.connect() as wire:
        wire.send(
            b"POST /test/ HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n"
        )
        assert wire.message().status == 400
        assert wire.ended()
    assert not upstream.has_another()


def test_pipelined_requests_are_answered_in_their_order(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.send(
            b"GET /test/slow HTTP/1.1\r\n" + HOST + b"\r\n"
            b"GET /bytes/16 HTTP/1.1\r\n" + HOST + b"\r\n" + GET + b"\r\n"
        )
        behind = upstream.accept()
        assert behind.message().start == "GET /test/slow HTTP/1.1"
        behind.answer(b"slow")
        assert wire.message().body == b"slow"
        assert wire.message().body == b"0123456789abcdef"
        assert b"a file" in wire.message().body


def test_many_pipelined_requests_are_all_answered(daemon: Daemon) -> None:
    with daemon.connect() as wire:
        wire.send((GET + b"\r\n") * 500)
        for _ in range(500):
            assert wire.message().status == 200
        wire.get("/static/page.html", "Connection: close")
        assert wire.message().status == 200
        assert wire.ended()


def test_a_request_in_single_bytes_is_the_same_request(daemon: Daemon) -> None:
    with daemon.connect() as wire:
        sent = b"POST /digest HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        for byte in sent + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n":
            wire.send(bytes((byte,)))
        assert b'"length":5' in wire.message().body


def test_http_1_0_closes_unless_it_is_told_to_keep_alive(daemon: Daemon) -> None:
    with daemon.connect() as wire:
        wire.send(b"GET /static/page.html HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert wire.message().get("connection") == "keep-alive"
        wire.send(b"GET /static/page.html HTTP/1.0\r\n\r\n")
        assert wire.message().get("connection") == "close"
        assert wire.ended()


def test_http_1_0_gets_a_stream_without_chunks(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.send(b"GET /test/ HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n")
        behind = upstream.accept()
        behind.message()
        behind.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        head = wire.head()
        assert head.get("transfer-encoding") is None
        assert head.get("connection") == "close"
        assert wire.exactly(3) == b"abc"
        behind.send(b"2\r\nde\r\n0\r\n\r\n")
        assert wire.rest() == b"de"


def test_an_absolute_target_wins_over_host(daemon: Daemon) -> None:
    with daemon.connect() as wire:
        wire.send(b"GET http://other.test:81/whoami HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b'"http://other.test:81/whoami"' in wire.message().body


def test_options_asterisk_is_about_the_server(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.send(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")
        answer = wire.message()
        assert answer.status == 204
        assert answer.get("allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert not upstream.has_another()


def test_empty_lines_before_a_request_are_forgiven(daemon: Daemon) -> None:
    with daemon.connect() as wire:
        wire.send(b"\r\n" + GET + b"\r\n\r\n" + GET + b"\r\n")
        assert [wire.message().status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GE",
        GET,
        b"POST /test/ HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nhalf",
        b"POST /test/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nha",
    ],
    ids=["nothing", "a method", "a head", "content", "a chunk"],
)
def test_a_client_that_leaves_halfway_leaves_nothing_behind(
    daemon: Daemon, upstream: Upstream, sent: bytes
) -> None:
    with daemon.connect() as wire:
        wire.send(sent)
    assert daemon.ask("/static/page.html").status == 200
    assert not upstream.has_another()


def test_unknown_expectations_are_refused(daemon: Daemon, upstream: Upstream) -> None:
    with daemon.connect() as wire:
        wire.get("/test/", "Expect: the-unexpected", method="POST", body=b"x")
        assert wire.message().status == 417
    assert not upstream.has_another()
