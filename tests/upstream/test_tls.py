"""TLS to upstreams, against real servers: who is believed, and what is said of who is not."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.errors import CertificateError, UpstreamError
from proxy.upstream.address import TcpAddress, UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from proxy.upstream.server import UpstreamTls
from proxy.upstream.tls import client_context
from tests.config.pki import Issued
from tests.upstream.servers import application, get


class Files:
    """An authority, a server's certificate for two names, and a client's."""

    def __init__(self, folder: Path) -> None:
        self.authority = Issued.authority()
        self.folder = folder
        self.ca = self.write("ca.pem", self.authority)
        self.server = self.write("server.pem", self.authority.issue("app.internal", "127.0.0.1"))
        self.client = self.write("client.pem", self.authority.issue("proxyd", client=True))

    def write(self, name: str, issued: Issued) -> Path:
        pem = issued.certificate.public_bytes(Encoding.PEM)
        if name != "ca.pem":
            pem += issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self.folder / name
        path.write_bytes(pem)
        return path

    def context(self, *, asks: bool = False) -> ssl.SSLContext:
        """Return what the server speaks TLS with."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server)
        if asks:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 tells of it after the handshake
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("pki"))


Attempt = Callable[[], Coroutine[Any, Any, None]]


def on(loop: str, attempt: Attempt) -> None:
    """Run on one of the two event loops: they make TLS each in its own way."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(attempt())


both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@both_loops
@pytest.mark.parametrize("server_name", [None, "app.internal"])
def test_a_server_with_the_right_certificate_is_believed(
    files: Files, loop: str, server_name: str | None
) -> None:
    async def attempt() -> None:
        async with application(context=files.context()) as one:
            tls = UpstreamTls(ca_file=files.ca, server_name=server_name)
            group = Group("demo", [one.address], GroupOptions(tls=tls))
            for _ in range(3):
                answer = await get(group)
                assert (answer.status, answer.body) == (200, b"ok")
            assert group.connections == 1
            group.close()

    on(loop, attempt)


@both_loops
def test_the_name_is_asked_for_by_sni(files: Files, loop: str) -> None:
    async def attempt() -> None:
        asked: list[str | None] = []
        context = files.context()
        context.sni_callback = lambda _socket, name, _context: asked.append(name)
        async with application(context=context) as one:
            tls = UpstreamTls(ca_file=files.ca, server_name="app.internal")
            group = Group("demo", [one.address], GroupOptions(tls=tls))
            await get(group)
            assert asked == ["app.internal"]
            group.close()

    on(loop, attempt)


@both_loops
@pytest.mark.parametrize(
    ("server_name", "with_ca", "said"),
    [
        ("other.internal", True, "not trusted: .*ismatch.*check `ca` and `server_name`"),
        (None, False, "not trusted: .*(self-signed|local issuer)"),
    ],
)
def test_a_server_with_another_certificate_is_not(
    files: Files, loop: str, server_name: str | None, with_ca: bool, said: str
) -> None:
    async def attempt() -> None:
        async with application(context=files.context()) as one:
            tls = UpstreamTls(ca_file=files.ca if with_ca else None, server_name=server_name)
            group = Group("demo", [one.address], GroupOptions(tls=tls))
            with pytest.raises(UpstreamError, match=said):
                await get(group)
            assert one.requests == 0
            assert group.connections == 0

    on(loop, attempt)


@both_loops
def test_without_verification_any_certificate_will_do(files: Files, loop: str) -> None:
    async def attempt() -> None:
        async with application(context=files.context()) as one:
            group = Group("demo", [one.address], GroupOptions(tls=UpstreamTls(verify=False)))
            assert (await get(group)).status == 200
            group.close()

    on(loop, attempt)


@both_loops
def test_a_server_may_ask_for_a_client_certificate(files: Files, loop: str) -> None:
    async def attempt() -> None:
        async with application(context=files.context(asks=True)) as one:
            tls = UpstreamTls(ca_file=files.ca, certificate=files.client)
            group = Group("demo", [one.address], GroupOptions(tls=tls))
            assert (await get(group)).status == 200
            group.close()
            without = Group("demo", [one.address], GroupOptions(tls=UpstreamTls(ca_file=files.ca)))
            with pytest.raises(UpstreamError, match="does it want a client certificate"):
                await get(without)

    on(loop, attempt)


@both_loops
def test_a_server_without_tls_is_told_apart(files: Files, loop: str) -> None:
    async def attempt() -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        address = TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1])
        group = Group("demo", [address], GroupOptions(tls=UpstreamTls(ca_file=files.ca)))
        with pytest.raises(UpstreamError, match=r"could not agree on TLS.*does it speak TLS there"):
            await get(group)
        server.close()

    on(loop, attempt)


@both_loops
def test_a_unix_socket_can_speak_tls(files: Files, loop: str, tmp_path: Path) -> None:
    async def attempt() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            writer.close()

        path = tmp_path / "s"
        server = await asyncio.start_unix_server(serve, str(path), ssl=files.context())
        tls = UpstreamTls(ca_file=files.ca, server_name="app.internal")
        group = Group("demo", [UnixAddress(path)], GroupOptions(tls=tls))
        assert (await get(group)).status == 204
        server.close()
        group.close()
        await asyncio.sleep(0.05)

    on(loop, attempt)


def test_tls_1_1_is_not_spoken(files: Files) -> None:
    context = client_context(UpstreamTls(ca_file=files.ca))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (UpstreamTls(ca_file=Path("/nowhere/ca.pem")), "ca.pem cannot be read: No such file"),
        (UpstreamTls(certificate=Path("/nowhere/c.pem")), "c.pem .*cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tls: UpstreamTls, said: str) -> None:
    with pytest.raises(CertificateError, match=said):
        client_context(tls)
