"""When a process of an application must be replaced."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.config.backends import App
from proxy.config.load import parse
from proxy.process.hanging import Hanging
from proxy.process.recycling import Subject, Wear, less, tree_bytes, worn
from proxy.upstream.address import UnixAddress


def app(lines: str) -> App:
    text = f'[[route]]\npath = "/*"\nto = "shop"\n[app.shop]\nwsgi = "a:b"\n{lines}\n'
    return parse(text, Path("/srv/proxy.toml")).app["shop"]


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    made = Hanging()
    yield made
    made.close()


def subject(
    hanging: Hanging,
    path: Path = Path("/no"),
    *,
    age_s: float = 0,
    served: int = 0,
    told: list[bool] | None = None,
) -> Subject:
    return Subject(
        pid=os.getpid(),
        address=UnixAddress(path),
        began_at=asyncio.get_running_loop().time() - age_s,
        served=lambda: served,
        set_up=(told if told is not None else []).append,
        hanging=hanging,
    )


@asynccontextmanager
async def answering(path: Path, statuses: list[bytes]) -> AsyncIterator[None]:
    """Answer with one status after the other, the last one again and again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        writer.write(b"HTTP/1.1 " + status + b" \r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


@pytest.mark.parametrize(
    ("lines", "age_s", "served", "reason"),
    [
        ('max_age = "1h"', 3601, 0, "(max_age)"),
        ("max_requests = 100", 0, 100, "it has answered 100 requests (max_requests)"),
        ('max_memory = "1MiB"', 0, 0, "of memory (max_memory)"),
    ],
)
async def test_what_is_used_up_is_replaced_and_serves_until_then(
    lines: str, age_s: float, served: int, reason: str, hanging: Hanging
) -> None:
    async with asyncio.timeout(20):
        wear = await worn(app(lines), subject(hanging, age_s=age_s, served=served))
    assert reason in wear.reason
    assert wear.serves


@pytest.mark.parametrize("lines", ["", 'max_age = "1h"\nmax_requests = 100\nmax_memory = "900GiB"'])
async def test_what_is_as_it_should_be_stays(lines: str, hanging: Hanging) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await worn(app(lines), subject(hanging, age_s=3200, served=89))


async def test_only_failures_in_a_row_are_deadly(tmp_path: Path, hanging: Hanging) -> None:
    statuses = [b"500", b"200", b"500", b"200", b"500", b"503"]
    lines = 'liveness = { path = "/", interval = "10ms", fall = 2, timeout = "20s" }'
    async with answering(tmp_path / "s", statuses), asyncio.timeout(20):
        wear = await worn(app(lines), subject(hanging, tmp_path / "s"))
    assert wear == Wear(reason="it answered GET / with 503, 2 times (liveness)", serves=False)


async def test_who_is_not_ready_is_told_and_who_is_again(tmp_path: Path, hanging: Hanging) -> None:
    told: list[bool] = []
    statuses = [b"200", b"503", b"200", b"503", b"503", b"204", b"204", b"204"]
    lines = 'readiness = { path = "/", interval = "10ms", fall = 2, timeout = "20s" }'
    async with answering(tmp_path / "s", statuses):
        asking = asyncio.create_task(worn(app(lines), subject(hanging, tmp_path / "s", told=told)))
        async with asyncio.timeout(20):
            while len(told) < 2:  # noqa: ASYNC110 - the other end's doing
                await asyncio.sleep(0.01)
        asking.cancel()
    assert told == [False, True]


def test_limits_differ_by_up_to_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(90 <= less(100) <= 100 for _ in range(100))
    monkeypatch.setattr("random.uniform", lambda low, _: low)
    assert less(100) == pytest.approx(90)


def test_a_process_that_is_gone_uses_no_memory() -> None:
    assert tree_bytes(2**22 - 1) == 0
    assert tree_bytes(os.getpid()) > 1 << 20
