"""TLS of a listener: a real event loop, real sockets, and Python's own client."""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from proxy.config.certificates import names_of
from proxy.message import Response
from proxy.pipeline.entrance import Entrance
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.respond import respond
from proxy.protocol.limits import ClientLimits
from proxy.protocol.listener import listen
from proxy.protocol.ticket_keys import TicketSecret
from proxy.protocol.tls import Certificate, Contexts, Material, Policy, make_context
from proxy.rules.forwarding import TrustedNetworks
from tests.config.pki import Issued
from tests.protocol.wire import Wire

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
SECRET = TicketSecret.new(0)


@pytest.fixture(scope="module")
def root() -> Issued:
    return Issued.authority()


def certificate(issued: Issued, *names: str) -> Certificate:
    return Certificate(names, issued.pem.decode(), issued.key_pem().decode())


def contexts(root: Issued, *names: str, ca: Issued | None = None, **policy: Any) -> Contexts:
    """Make the contexts of a listener with a certificate for each of `names`."""
    made = tuple(certificate(root.issue(name), name) for name in names or ("a.example",))
    material = Material(made, ca.pem.decode() if ca else "")
    return Contexts(Policy(**policy), material, SECRET)


def client(root: Issued, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=root.pem.decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if own is not None:
        context.load_cert_chain(*own)
    return context


class Server(Wire):
    """A service whose answers say who asked."""

    def __init__(self, limits: ClientLimits | None = None) -> None:
        super().__init__(answer, limits)
        self.connection.connection_lost(None)
        self.port = 0


def answer(exchange: Exchange) -> Step:
    peer = exchange.peer
    said = b"%b %b" % (peer.scheme, dict(peer.certificate).get(b"X-Client-Cert-Subject", b"-"))
    exchange.response = Response(200, [], said + b" " + exchange.client.encode())
    return respond


@asynccontextmanager
async def serving(
    chosen: Contexts | None, limits: ClientLimits | None = None, **options: Any
) -> AsyncIterator[Server]:
    server = Server(limits)
    sock = socket.create_server((HOST, 0))
    sock.setblocking(False)
    server.port = sock.getsockname()[1]
    options.setdefault("backlog", 100)
    listening = await listen(server.service, sock, contexts=chosen, **options)
    try:
        yield server
    finally:
        listening.close()
        server.service.abort_all()
        await asyncio.sleep(0.01)  # let the loop forget the connections


class Got:
    """What a client saw of a connection."""

    def __init__(self, tls: ssl.SSLSocket, session: ssl.SSLSession | None, data: bytes) -> None:
        self.version = tls.version()
        self.cipher = (tls.cipher() or ("",))[0]
        self.alpn = tls.selected_alpn_protocol()
        self.resumed = tls.session_reused
        der = tls.getpeercert(binary_form=True) or b""
        self.names = names_of(x509.load_der_x509_certificate(der))
        self.session = session
        self.head, _, self.body = data.partition(b"\r\n\r\n")


def fetch(
    port: int,
    context: ssl.SSLContext,
    name: str = "a.example",
    *,
    session: ssl.SSLSession | None = None,
    before: bytes = b"",
    request: bytes = REQUEST,
) -> Got:
    with socket.create_connection((HOST, port), 10) as raw:
        raw.sendall(before)
        with context.wrap_socket(raw, server_hostname=name, session=session) as tls:
            tls.sendall(request)
            data = b""
            while b"\r\n\r\n" not in data or data.endswith(b"\r\n\r\n"):
                piece = tls.recv(65536)
                if not piece:
                    break
                data += piece
            return Got(tls, tls.session, data)


async def got(*arguments: Any, **options: Any) -> Got:
    return await asyncio.to_thread(fetch, *arguments, **options)


async def test_a_request_over_tls_is_https(root: Issued) -> None:
    async with serving(contexts(root)) as server:
        seen = await got(server.port, client(root))
    assert seen.body == b"https - 127.0.0.1"
    assert seen.version == "TLSv1.3"
    assert server.log.lines == [(b"/", 200)]


async def test_alpn_settles_on_http_1_1(root: Issued) -> None:
    context = client(root)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(contexts(root)) as server:
        assert (await got(server.port, context)).alpn == "http/1.1"


async def test_intermediate_takes_tls_1_2_with_forward_secrecy_only(root: Issued) -> None:
    context = client(root)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(contexts(root)) as server:
        seen = await got(server.port, context)
        assert seen.cipher.startswith("ECDHE-ECDSA-")
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256")
        with pytest.raises(ssl.SSLError):
            await got(server.port, context)


async def test_modern_takes_tls_1_3_only(root: Issued) -> None:
    context = client(root)
    async with serving(contexts(root, profile="modern")) as server:
        assert (await got(server.port, context)).version == "TLSv1.3"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            await got(server.port, context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_older_versions_are_refused(root: Issued, version: ssl.TLSVersion) -> None:
    context = client(root)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with serving(contexts(root)) as server:
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            await got(server.port, context)


async def test_the_certificate_is_chosen_by_name_and_the_first_is_for_all_others(
    root: Issued,
) -> None:
    async with serving(contexts(root, "a.example", "b.example", "*.c.example")) as server:
        context = client(root)
        assert (await got(server.port, context, "b.example")).names == ("b.example",)
        assert (await got(server.port, context, "B.Example")).names == ("b.example",)
        assert (await got(server.port, context, "x.c.example")).names == ("*.c.example",)
        context.check_hostname = False
        assert (await got(server.port, context, "z.example")).names == ("a.example",)
        assert (await got(server.port, context, None)).names == ("a.example",)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_resumed_with_another_worker_and_with_new_certificates(
    root: Issued, version: ssl.TLSVersion
) -> None:
    context = client(root)
    context.maximum_version = version
    one, other = contexts(root, "a.example", "b.example"), contexts(root, "a.example", "b.example")
    if not one.shares_tickets:
        pytest.skip("this Python cannot set the key of tickets")
    async with serving(one) as first, serving(other) as second:
        begun = await got(first.port, context, "b.example")
        assert not begun.resumed
        assert (await got(second.port, context, "b.example", session=begun.session)).resumed


async def test_a_session_of_one_policy_is_not_resumed_under_another(
    root: Issued, tmp_path: Path
) -> None:
    """A ticket without a certificate must not open a door that asks for one (CVE-2025-23419)."""
    own = root.issue(client=True, subject=root.certificate.subject).write(tmp_path, "client")
    context = client(root, own)
    strict = contexts(root, ca=root, client_certificate="required")
    async with serving(contexts(root)) as open_door, serving(strict) as closed_door:
        begun = await got(open_door.port, context)
        seen = await got(closed_door.port, context, session=begun.session)
    assert not seen.resumed
    assert seen.body.startswith(b"https CN=")


async def test_a_client_certificate_names_the_client(root: Issued, tmp_path: Path) -> None:
    staff = Issued.authority("Staff")
    own = staff.issue("mira", client=True).write(tmp_path, "mira")
    strict = contexts(root, ca=staff, client_certificate="required")
    async with serving(strict) as server:
        seen = await got(server.port, client(root, own))
        assert seen.body == b"https CN=mira 127.0.0.1"
        again = await got(server.port, client(root, own))
        assert again.body == seen.body
        with pytest.raises(ssl.SSLError, match=r"certificate.required"):
            await got(server.port, client(root))
        stranger = Issued.authority("Others").issue("mira", client=True).write(tmp_path, "other")
        with pytest.raises(ssl.SSLError, match=r"unknown.ca"):
            await got(server.port, client(root, stranger))
    assert [status for _, status in server.log.lines] == [200, 200]


async def test_a_resumed_session_still_knows_its_client(root: Issued, tmp_path: Path) -> None:
    own = root.issue("mira", client=True).write(tmp_path, "mira")
    context = client(root, own)
    async with serving(contexts(root, ca=root, client_certificate="required")) as server:
        begun = await got(server.port, context)
        again = await got(server.port, context, session=begun.session)
    assert again.resumed
    assert again.body == b"https CN=mira 127.0.0.1"


async def test_an_optional_client_certificate_may_be_left_out_but_not_be_forged(
    root: Issued, tmp_path: Path
) -> None:
    own = root.issue("mira", client=True).write(tmp_path, "mira")
    forged = Issued.authority("Others").issue("mira", client=True).write(tmp_path, "forged")
    async with serving(contexts(root, ca=root, client_certificate="optional")) as server:
        assert (await got(server.port, client(root))).body == b"https - 127.0.0.1"
        assert (await got(server.port, client(root, own))).body == b"https CN=mira 127.0.0.1"
        with pytest.raises(ssl.SSLError, match=r"unknown.ca"):
            await got(server.port, client(root, forged))


async def test_new_certificates_are_for_new_connections(root: Issued) -> None:
    chosen = contexts(root, "a.example")
    context = client(root)
    async with serving(chosen) as server:
        with closing(await asyncio.to_thread(dial, server.port, context)) as held:
            chosen.load(Material((certificate(root.issue("b.example"), "b.example"),)))
            assert (await got(server.port, context, "b.example")).names == ("b.example",)
            assert (await asyncio.to_thread(ask, held)).endswith(b"https - 127.0.0.1")


async def test_certificates_that_cannot_be_served_change_nothing(root: Issued) -> None:
    chosen = contexts(root, "a.example")
    front = chosen.front
    broken = Certificate(("b.example",), root.pem.decode(), root.issue("b").key_pem().decode())
    with pytest.raises(ssl.SSLError):
        chosen.load(Material((certificate(root.issue("c.example"), "c.example"), broken)))
    assert chosen.front is front


def test_an_encrypted_key_is_an_error_and_asks_nobody(root: Issued) -> None:
    locked = Certificate((), root.pem.decode(), root.key_pem(b"secret").decode())
    with pytest.raises(ssl.SSLError):
        make_context(Policy(), locked, "")


def dial(port: int, context: ssl.SSLContext, name: str = "a.example") -> ssl.SSLSocket:
    raw = socket.create_connection((HOST, port), 10)
    return context.wrap_socket(raw, server_hostname=name)


def ask(tls: ssl.SSLSocket) -> bytes:
    tls.sendall(REQUEST)
    data = b""
    while b"\r\n\r\n" not in data:
        data += tls.recv(65536)
    return data


async def test_the_preface_of_a_proxy_comes_before_tls(root: Issued) -> None:
    preface = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n"
    async with serving(contexts(root), proxy_protocol=True) as server:
        server.service.site.trusted = TrustedNetworks(["127.0.0.1/32"])
        seen = await got(server.port, client(root), before=preface)
        assert seen.body == b"https - 192.0.2.7"


async def test_a_preface_and_the_beginning_of_tls_may_come_in_one_piece(root: Issued) -> None:
    preface = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n"
    async with serving(contexts(root), proxy_protocol=True) as server:
        server.service.site.trusted = TrustedNetworks(["127.0.0.1/32"])
        body = await asyncio.to_thread(by_hand, server.port, client(root), preface)
    assert body.endswith(b"https - 192.0.2.7")


def by_hand(port: int, context: ssl.SSLContext, before: bytes) -> bytes:
    """Speak TLS with `before` and the first flight in one segment, and the request in the last."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
    with socket.create_connection((HOST, port), 10) as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(before + outgoing.read())
                before = b""
                incoming.write(raw.recv(65536))
        tls.write(REQUEST)
        raw.sendall(outgoing.read())
        data = b""
        while not data.endswith(b"192.0.2.7"):
            try:
                data += tls.read()
            except ssl.SSLWantReadError:
                piece = raw.recv(65536)
                assert piece, data
                incoming.write(piece)
        return data


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until it has noticed what the other end did."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - sockets tell only the server
            await asyncio.sleep(0.001)


async def ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def test_a_handshake_that_does_not_come_is_given_up(root: Issued) -> None:
    limits = ClientLimits(handshake_timeout_s=0.1)
    async with serving(contexts(root), limits) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        await until(lambda: bool(server.service.handshakes))
        server.service.deadlines.sweep(asyncio.get_running_loop().time() + 2)
        assert await ended(reader)
        await until(lambda: not server.service.handshakes)
        writer.close()


async def test_past_the_bound_the_oldest_handshake_goes(root: Issued) -> None:
    limits = ClientLimits(handshakes=2)
    async with serving(contexts(root), limits) as server:
        silent = [await asyncio.open_connection(HOST, server.port) for _ in range(5)]
        for reader, _ in silent[:3]:
            assert await ended(reader)
        assert (await got(server.port, client(root))).body == b"https - 127.0.0.1"
        assert await ended(silent[3][0])
        assert list(server.service.handshakes) != []
        for _, writer in silent:
            writer.close()


async def test_what_is_no_tls_is_told_so_and_closed(root: Issued) -> None:
    async with serving(contexts(root)) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(REQUEST)
        writer.write_eof()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        await until(lambda: not server.service.handshakes)
        writer.close()


async def test_who_leaves_in_the_middle_of_a_handshake_is_forgotten(root: Issued) -> None:
    async with serving(contexts(root)) as server:
        _, writer = await asyncio.open_connection(HOST, server.port)
        await until(lambda: bool(server.service.handshakes))
        writer.transport.abort()
        await until(lambda: not server.service.handshakes)
        assert not server.service.connections


async def test_the_end_waits_for_handshakes_and_their_requests(root: Issued) -> None:
    async with serving(contexts(root)) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        await until(lambda: bool(server.service.handshakes))
        draining = asyncio.create_task(server.service.drain(5))
        async with asyncio.timeout(10):
            await writer.start_tls(client(root), server_hostname="a.example")
            writer.write(REQUEST)
            data = await reader.read()
            assert b"Connection: close" in data
            assert data.endswith(b"https - 127.0.0.1")
            writer.close()
            assert await draining


async def test_hsts_is_on_every_answer_unless_the_answer_has_its_own(root: Issued) -> None:
    line = b"Strict-Transport-Security: max-age=5\r\n"
    async with serving(contexts(root), entrance=Entrance(hsts_line=line)) as server:
        assert (
            b"Strict-Transport-Security: max-age=5" in (await got(server.port, client(root))).head
        )
        server.route.step = own_hsts
        seen = await got(server.port, client(root))
    assert seen.head.lower().count(b"strict-transport-security") == 1
    assert b"max-age=9" in seen.head


def own_hsts(exchange: Exchange) -> Step:
    fields = [(b"strict-transport-security", b"max-age=9")]
    exchange.response = Response(200, fields, b"own")
    return respond


async def test_a_listener_that_redirects_sends_http_to_https(root: Issued) -> None:
    async with serving(None, entrance=Entrance(https_port=8443)) as server:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(b"GET /a?b HTTP/1.1\r\nHost: a.example:80\r\nConnection: close\r\n\r\n")
        data = await reader.read()
        writer.close()
    assert data.startswith(b"HTTP/1.1 308 ")
    assert b"\r\nLocation: https://a.example:8443/a?b\r\n" in data


async def test_a_large_answer_reaches_a_client_that_closes_behind_it(root: Issued) -> None:
    async with serving(contexts(root)) as server:
        server.route.step = large
        request = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        data = await asyncio.to_thread(read_all, server.port, client(root), request)
    assert len(data.partition(b"\r\n\r\n")[2]) == 5_000_000


def large(exchange: Exchange) -> Step:
    exchange.response = Response(200, [], bytes(5_000_000))
    return respond


def read_all(port: int, context: ssl.SSLContext, request: bytes) -> bytes:
    with dial(port, context) as tls:
        tls.sendall(request)
        data = b""
        while piece := tls.recv(1 << 20):
            data += piece
        return data


if sys.platform == "linux":

    def test_a_key_is_never_on_disk(root: Issued, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        load = ssl.SSLContext.load_cert_chain

        def watched(context: ssl.SSLContext, path: str, **options: Any) -> None:
            seen.append(Path(path).readlink().as_posix())
            load(context, path, **options)

        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
        make_context(Policy(), certificate(root.issue("a.example"), "a.example"), "")
        assert [link.startswith("/memfd:") for link in seen] == [True]
