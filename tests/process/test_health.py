"""Whether an application that was just started answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.errors import StartError
from proxy.process import health
from proxy.process.health import check_health
from proxy.upstream.address import UnixAddress


@asynccontextmanager
async def answering(path: Path, answer: bytes | None) -> AsyncIterator[None]:
    """Answer every request on a unix socket with the same bytes; None answers nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"GET / HTTP/1.1\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"401 Unauthorized", b"404 Not Found"])
async def test_any_answer_but_a_failure_will_do(short: Path, status: bytes) -> None:
    async with answering(short / "s", b"HTTP/1.1 " + status + b"\r\n\r\n"):
        await check_health("app a", UnixAddress(short / "s"))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", "app a answered GET / with 500"),
        (b"HTTP/1.0 503 \r\n\r\n", "with 503"),
        (b"", "did not answer GET / with HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "did not answer GET / with HTTP"),
        (b"x" * 100_000, "did not answer GET /"),
        (None, "did not answer GET / within 0.1 s"),
    ],
)
async def test_a_failure_and_silence_are_told(
    short: Path, answer: bytes | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if answer is None:
        monkeypatch.setattr(health, "AT_RELOAD", replace(health.AT_RELOAD, timeout_s=0.1))
    async with answering(short / "s", answer):
        with pytest.raises(StartError, match=told):
            await check_health("app a", UnixAddress(short / "s"))


async def test_a_socket_that_is_not_there_is_told(short: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        await check_health("app a", UnixAddress(short / "s"))
