"""Probes against real servers: what they call down, and when."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy.clock import Clock
from proxy.compose import Parts
from proxy.config.load import parse
from proxy.process.probes import Probes
from proxy.upstream.group import Group
from tests.config.pki import Issued


class Application:
    """Answers every request with `status`, or never when that is 0."""

    def __init__(self) -> None:
        self.status = 200
        self.heads: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if self.status:
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)
            await reader.read()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def application(
    path: Path | None = None, context: ssl.SSLContext | None = None
) -> AsyncIterator[Application]:
    running = Application()
    if path is not None:
        server = await asyncio.start_unix_server(running.serve, str(path))
    else:
        server = await asyncio.start_server(running.serve, "127.0.0.1", 0, ssl=context)
        running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


@asynccontextmanager
async def probing(folder: Path, lines: str) -> AsyncIterator[Group]:
    """Probe the servers of an upstream that `lines` describe."""
    text = f"""
[log]
access = "off"
[[route]]
path = "/*"
to = "shop"
[upstream.shop]
{lines}
"""
    config = parse(text, folder / "proxy.toml")
    parts = Parts(config, {}, Clock())
    probes = Probes(config, parts.groups)
    probes.start()
    try:
        yield parts.groups["shop"]
    finally:
        await probes.stop()
        parts.close()
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a condition of real sockets, which nobody sets
            await asyncio.sleep(0.01)


def downs(group: Group) -> list[bool]:
    return [pool.health.probed_down for pool in group.pools]


def servers(*applications: Application) -> str:
    return f"servers = {[f'127.0.0.1:{one.port}' for one in applications]}"


async def test_a_server_that_answers_badly_goes_down_and_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "proxyd.probe")
    async with application() as good, application() as bad:
        probe = 'probe = { path = "/up?x=%20", interval = "20ms", host = "shop.internal" }'
        async with probing(tmp_path, f"{servers(good, bad)}\n{probe}") as group:
            await until(lambda: len(bad.heads) > 2)
            assert downs(group) == [False, False]
            bad.status = 503
            await until(lambda: downs(group) == [False, True])
            for _ in range(4):
                pool = group._roster.choose(None, asyncio.get_running_loop().time())
                assert pool is group.pools[0]
            bad.status = 302
            await until(lambda: downs(group) == [False, False])
    assert b"GET /up?x=%20 HTTP/1.1\r\n" in bad.heads[0]
    assert b"Host: shop.internal\r\n" in bad.heads[0]
    assert f"upstream shop (127.0.0.1:{bad.port}) is down: its probe was answered with 503" in (
        caplog.text
    )
    assert f"upstream shop (127.0.0.1:{bad.port}) is up again" in caplog.text


async def test_it_takes_as_many_failures_as_fall_says(tmp_path: Path) -> None:
    async with application() as one:
        probe = 'probe = { path = "/", interval = "10ms", fall = 5, statuses = [200] }'
        async with probing(tmp_path, f"{servers(one)}\n{probe}") as group:
            await until(lambda: len(one.heads) > 1)
            one.status = 204
            before = len(one.heads)
            await until(lambda: downs(group) == [True])
            assert len(one.heads) - before >= 4


@pytest.mark.parametrize("first", [0, 500])
async def test_the_first_probe_decides_alone(tmp_path: Path, first: int) -> None:
    async with application() as one:
        one.status = first
        probe = 'probe = { path = "/", interval = "1h", timeout = "100ms" }'
        async with probing(tmp_path, f"{servers(one)}\n{probe}") as group:
            await until(lambda: downs(group) == [True])
            assert len(one.heads) == 1


async def test_a_unix_socket_that_nobody_listens_on_is_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    probe = 'servers = ["unix:s"]\nprobe = { path = "/", interval = "10ms", rise = 1 }'
    async with probing(tmp_path, probe) as group:
        await until(lambda: downs(group) == [True])
        assert "is down: its probe failed: " in caplog.text
        async with application(tmp_path / "s"):
            await until(lambda: downs(group) == [False])


async def test_a_server_with_tls_is_probed_with_tls(tmp_path: Path) -> None:
    authority = Issued.authority()
    issued = authority.issue("shop.internal")
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    pem = issued.certificate.public_bytes(Encoding.PEM) + issued.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    async with application(context=context) as one:
        lines = f"""{servers(one)}
probe = {{ path = "/", interval = "10ms" }}
tls = {{ ca = "ca.pem", server_name = "%s" }}"""
        async with probing(tmp_path, lines % "shop.internal") as group:
            await until(lambda: len(one.heads) > 1)
            assert downs(group) == [False]
        async with probing(tmp_path, lines % "other.internal") as group:
            await until(lambda: downs(group) == [True])


async def test_without_a_probe_nobody_is_asked(tmp_path: Path) -> None:
    async with application() as one, probing(tmp_path, servers(one)) as group:
        assert downs(group) == [False]
        assert not group.connections
    assert one.heads == []
