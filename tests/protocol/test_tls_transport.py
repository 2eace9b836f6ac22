"""TLS once the handshake is complete: OpenSSL as the client, and a transport with known room."""

import asyncio
import hashlib
import ssl
from itertools import pairwise
from typing import Any

import pytest

from proxy.message import Response
from proxy.pipeline.exchange import Exchange, Peer, Step, Wait
from proxy.pipeline.respond import respond
from proxy.protocol.handshake import Handshake
from proxy.protocol.tls_transport import BATCH_RECORDS, MOST_BYTES, RECORD_BYTES, TlsTransport
from tests.config.pki import Issued
from tests.pipeline.bodies import until
from tests.protocol.test_tls import client, contexts
from tests.protocol.wire import FakeTransport, LogLines, Wire

REQUEST = b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
LARGE = bytes(range(256)) * 4000
ROOM = 64 * 1024
# Records with their heads and tags.
BATCH_BYTES = BATCH_RECORDS * (RECORD_BYTES + 64)


@pytest.fixture(scope="module")
def root() -> Issued:
    return Issued.authority()


class Below(FakeTransport):
    """A transport that takes `ROOM` bytes at a time, when told to `take_more`."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.paused = False
        self.breaks = False  # at the first write of many records
        self.writes_after = 0

    def writelines(self, list_of_data: Any) -> None:
        if self.breaks and self.closed:
            self.writes_after += 1
            return
        super().writelines(list_of_data)
        self.closed = self.closed or self.breaks

    def write(self, data: Any) -> None:
        assert not self.eof_written
        super().write(data)
        if not self.slow:
            return
        self.unsent += len(data)
        if self.unsent > ROOM and not self.paused:
            self.paused = True
            self.protocol.pause_writing()  # type: ignore[union-attr]

    def take_more(self) -> None:
        """The client reads all that there is."""
        self.unsent = 0
        if self.paused:
            self.paused = False
            self.protocol.resume_writing()  # type: ignore[union-attr]


class Session:
    """A client and a server that have shaken hands, with nothing between them."""

    server: TlsTransport

    def __init__(
        self,
        root: Issued,
        step: Step,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        early: bytes = b"",
    ) -> None:
        wire = Wire(step)
        wire.connection.connection_lost(None)
        self.service = wire.service
        self.log: LogLines = wire.log
        self.below = Below()
        self.told_goodbye = False
        peer = Peer("192.0.2.1", 40000, "192.0.2.80", 443, b"http", False)
        Handshake(self.service, peer, contexts(root), self.below).begin(b"")
        context = client(root)
        context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="a.example")
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.deliver(self.outgoing.read())
                self.fetch()
            else:
                break
        self.deliver(self.outgoing.read() + self.sealed(early))
        self.fetch()
        assert isinstance(self.below.protocol, TlsTransport)
        self.server = self.below.protocol

    def deliver(self, data: bytes) -> None:
        """Let the server have some ciphertext."""
        if data:
            self.below.protocol.data_received(data)  # type: ignore[union-attr]

    def fetch(self) -> None:
        """Let the client have what the server wrote."""
        self.incoming.write(self.below.written)
        self.below.written = b""

    def sealed(self, data: bytes) -> bytes:
        """Return the records of some text."""
        while data:
            data = data[self.tls.write(data) :]
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        self.deliver(self.sealed(data))

    def read(self) -> bytes:
        """Return what the client can decrypt by now; `told_goodbye` when a close_notify ends it."""
        self.fetch()
        text = b""
        try:
            while piece := self.tls.read(65536):
                text += piece
            self.told_goodbye = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # and the client's own was sent before
            self.told_goodbye = True
        return text

    def holds(self) -> bool:
        """Whether the server has something that is not encrypted yet."""
        return self.server.get_write_buffer_size() > self.below.unsent

    def lose(self) -> None:
        """The connection is gone."""
        self.below.protocol.connection_lost(None)  # type: ignore[union-attr]

    def pass_time(self, seconds: float) -> None:
        self.service.deadlines.sweep(self.service.loop.time() + seconds)


def target(exchange: Exchange) -> Step:
    exchange.response = Response(200, [], exchange.request.target + b"!")
    return respond


def large(exchange: Exchange) -> Step:
    exchange.response = Response(200, [], LARGE)
    return respond


def digest(exchange: Exchange) -> Step:
    async def collect() -> Step:
        body = exchange.request.body
        assert body is not None
        digest = hashlib.sha256()
        await body.collect()
        async for piece in body:
            digest.update(piece)
        exchange.response = Response(200, [], digest.hexdigest().encode())
        return respond

    return Wait(collect())  # type: ignore[return-value]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_in_records_that_come_byte_by_byte_are_answered(
    root: Issued, version: ssl.TLSVersion
) -> None:
    session = Session(root, target, version)
    for number in range(2):
        for byte in session.sealed(REQUEST % number):
            session.deliver(bytes((byte,)))
        assert session.read().endswith(b"\r\n\r\n/%d!" % number)


async def test_records_that_come_together_are_answered_in_order(root: Issued) -> None:
    session = Session(root, target)
    together = b"".join(session.sealed(REQUEST % number) for number in range(3))
    session.deliver(together + session.sealed(b"GET /half HTTP/1.1\r\n"))
    answers = session.read().split(b"HTTP/1.1 200 OK")
    assert [answer[-3:] for answer in answers[1:]] == [b"/0!", b"/1!", b"/2!"]
    session.send(b"Host: a.example\r\n\r\n")
    assert session.read().endswith(b"/half!")


@pytest.mark.parametrize("size", [1 << 20, 40_000, 16_401, 1_000])
async def test_content_arrives_whole_however_its_records_are_cut(root: Issued, size: int) -> None:
    session = Session(root, digest)
    head = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
    cipher = session.sealed(head + LARGE)
    for start in range(0, len(cipher), size):
        session.deliver(cipher[start : start + size])
    await until(lambda: session.log.lines)  # its content is spilled by a thread
    assert session.read().endswith(hashlib.sha256(LARGE).hexdigest().encode())


class Counted:
    """OpenSSL, and how often it was asked to decrypt."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        return self.inner.read(size)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_records_are_decrypted_in_few_steps_where_their_ends_come_with_the_next(
    root: Issued,
) -> None:
    session = Session(root, target)
    heard = Heard()
    session.server.set_protocol(heard)
    counted = session.server._records = Counted(session.server._records)
    records = [session.sealed(bytes(RECORD_BYTES)) for _ in range(4)]
    session.deliver(records[0][:-1])
    for one, other in pairwise(records):
        session.deliver(one[-1:] + other[:1])
        session.deliver(other[1:-1])
    session.deliver(records[-1][-1:])
    assert heard.text == bytes(4 * RECORD_BYTES)
    assert counted.reads < 40


async def test_what_comes_with_the_end_of_the_handshake_is_taken_however_much(
    root: Issued,
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
    session = Session(root, digest, early=head + LARGE)
    await until(lambda: session.log.lines)  # its content is spilled by a thread
    assert session.read().endswith(hashlib.sha256(LARGE).hexdigest().encode())


async def test_nothing_is_encrypted_for_who_is_gone(root: Issued) -> None:
    session = Session(root, large)
    session.below.breaks = True
    session.send(REQUEST % 0)
    assert session.below.closed
    assert session.below.writes_after == 0
    assert session.holds()
    session.lose()
    assert not session.holds()


async def test_who_asks_for_new_keys_again_and_again_and_reads_nothing_is_ended(
    root: Issued,
) -> None:
    session = Session(root, large)
    session.below.slow = True
    session.send(REQUEST % 0)
    for _ in range(100):
        session.server._outgoing.write(bytes(10_000))  # OpenSSL answers each KeyUpdate
        session.server.data_received(b"")
        if session.below.aborted:
            break
    assert session.below.aborted
    assert session.below.unsent <= MOST_BYTES + 10_000


async def test_what_a_slow_client_has_no_room_for_stays_as_it_came(root: Issued) -> None:
    session = Session(root, large)
    session.below.slow = True
    session.send(REQUEST % 0)
    http = session.server.get_protocol()
    assert http.sink.paused  # type: ignore[union-attr]
    assert ROOM < session.below.unsent <= ROOM + BATCH_BYTES
    assert len(LARGE) - ROOM < session.server.get_write_buffer_size() <= len(LARGE) + 16 * 1024
    session.send(REQUEST % 1)  # waits for its turn
    text = session.read()
    while session.below.paused:
        session.below.take_more()
        assert session.below.unsent <= ROOM + BATCH_BYTES
        assert http.sink.paused == session.below.paused  # type: ignore[union-attr]
        text += session.read()
    first, second = text.split(b"HTTP/1.1 200 OK")[1:]
    assert first.endswith(LARGE)
    assert second.endswith(LARGE)
    session.below.take_more()
    assert session.server.get_write_buffer_size() == 0
    assert not http.sink.paused  # type: ignore[union-attr]


async def test_a_large_last_answer_is_read_to_its_end_and_then_comes_the_goodbye(
    root: Issued,
) -> None:
    session = Session(root, large)
    session.below.slow = True
    session.send(LAST)
    assert session.server.is_closing()
    text = b""
    while session.below.paused:
        text += session.read()
        assert session.below.eof_written != session.holds()
        session.below.take_more()
    assert (text + session.read()).endswith(LARGE)
    assert session.told_goodbye
    assert session.below.eof_written


async def test_after_its_goodbye_the_client_is_heard_out_until_its_own(root: Issued) -> None:
    session = Session(root, target)
    session.send(LAST)
    assert session.read().endswith(b"/last!")
    assert session.told_goodbye
    assert session.below.eof_written
    assert not session.below.closed
    session.send(REQUEST % 1)
    assert session.read() == b""
    assert session.log.lines == [(b"/last", 200)]
    assert not session.server.eof_received()  # upon which the transport below closes
    session.lose()
    assert not session.service.connections


async def test_who_does_not_end_is_ended(root: Issued) -> None:
    session = Session(root, target)
    session.send(LAST)
    session.pass_time(session.service.limits.linger_timeout_s - 2)
    assert not session.below.aborted
    session.pass_time(session.service.limits.linger_timeout_s + 2)
    assert session.below.aborted


async def test_who_has_read_all_has_not_as_long_to_end_as_to_read(root: Issued) -> None:
    session = Session(root, large)
    session.below.slow = True
    session.send(LAST)
    while session.below.paused:
        session.below.take_more()
    session.below.take_more()
    linger = session.service.limits.linger_timeout_s
    session.pass_time(linger + 1)  # sees that all was read
    assert not session.below.aborted
    session.pass_time(2 * linger + 3)
    assert session.below.aborted


async def test_who_reads_has_time_for_it_and_who_does_not_read_is_ended(root: Issued) -> None:
    session = Session(root, large)
    session.below.slow = True
    session.send(LAST)
    session.below.take_more()
    session.pass_time(30)
    session.pass_time(30 + session.service.limits.send_timeout_s - 2)
    assert not session.below.aborted
    session.below.take_more()
    session.pass_time(95)
    session.pass_time(95 + session.service.limits.send_timeout_s - 2)
    assert not session.below.aborted
    session.pass_time(95 + session.service.limits.send_timeout_s + 2)
    assert session.below.aborted
    session.lose()
    assert not session.holds()


async def test_a_request_with_a_goodbye_behind_it_is_answered(root: Issued) -> None:
    session = Session(root, target)
    cipher = session.sealed(REQUEST % 0)
    with pytest.raises(ssl.SSLWantReadError):
        session.tls.unwrap()
    session.deliver(cipher + session.outgoing.read())
    assert session.read().endswith(b"/0!")
    assert session.told_goodbye
    assert session.below.closed  # the client has said its own: nothing is waited for


async def test_an_end_without_a_goodbye_is_an_end(root: Issued) -> None:
    session = Session(root, target)
    session.send(REQUEST % 0)
    assert not session.server.eof_received()
    assert session.below.closed
    session.lose()
    assert not session.service.connections
    assert not session.service.idle


async def test_the_end_of_who_still_reads_does_not_cut_the_answer(root: Issued) -> None:
    session = Session(root, large)
    session.below.slow = True
    session.send(REQUEST % 0)
    assert session.server.eof_received()  # the transport below stays
    text = session.read()
    while session.below.paused:
        assert session.below.closed != session.holds()
        session.below.take_more()
        text += session.read()
    assert text.endswith(LARGE)
    assert session.below.closed


async def test_a_record_that_was_changed_on_its_way_is_told_so_and_no_answer_is_tried(
    root: Issued,
) -> None:
    session = Session(root, target)
    good, changed = session.sealed(REQUEST % 0), bytearray(session.sealed(REQUEST % 1))
    changed[-1] ^= 1
    session.deliver(good + changed)
    session.fetch()
    with pytest.raises(ssl.SSLError, match="alert bad record mac"):
        session.tls.read(1)
    assert session.below.closed
    session.lose()
    assert session.log.lines == []
    assert not session.service.connections


async def test_who_pauses_reads_nothing_and_its_end_is_seen_all_the_same(root: Issued) -> None:
    session = Session(root, target)
    session.server.pause_reading()
    assert not session.below.reading
    session.server.close()
    assert session.below.reading
    assert session.read() == b""
    assert session.told_goodbye


async def test_nothing_is_written_behind_the_end(root: Issued) -> None:
    session = Session(root, target)
    session.server.close()
    session.server.close()
    session.server.write(b"more")
    session.server.writelines((b"and", b"more"))
    assert session.read() == b""
    assert session.told_goodbye
    session.server.abort()
    assert session.below.aborted


class Heard(asyncio.Protocol):
    def __init__(self) -> None:
        self.text = b""

    def data_received(self, data: bytes) -> None:
        self.text += data


async def test_what_is_written_is_sent_in_order_and_what_comes_behind_the_end_is_not_heard(
    root: Issued,
) -> None:
    session = Session(root, target)
    heard = Heard()
    session.server.set_protocol(heard)
    session.send(b"a")
    session.below.slow = True
    session.server.write(LARGE)
    session.server.write(memoryview(b"small"))
    session.server.writelines((b"", bytearray(b"smaller")))
    session.server.close()
    session.send(b"b")
    text = b""
    while session.below.paused:
        text += session.read()
        session.below.take_more()
    assert text + session.read() == LARGE + b"smallsmaller"
    assert session.told_goodbye
    assert heard.text == b"a"


async def test_it_says_what_it_stands_on(root: Issued) -> None:
    session = Session(root, target)
    server = session.server
    assert server.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert isinstance(server.get_extra_info("sslcontext"), ssl.SSLContext)
    assert server.get_extra_info("peername", "-") == "-"
    assert not server.can_write_eof()
