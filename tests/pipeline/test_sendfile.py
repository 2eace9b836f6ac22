"""Files that an upstream names: what of its answer and what of the file reaches the client."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cache.purges import Purges
from proxy.files.asset import Representation
from proxy.files.catalog import Catalog
from proxy.files.memory import FileMemory
from proxy.files.options import CatalogOptions
from proxy.files.safe_open import OpenFile
from proxy.pipeline import leftover
from proxy.pipeline.sendfile import files_below
from proxy.upstream.options import GroupOptions
from tests.pipeline.caching import answer as said
from tests.pipeline.caching import cached, held
from tests.pipeline.upstreams import GET, Client, Server, answering
from tests.upstream.servers import until

HEAD = GET.replace(b"GET", b"HEAD")


def saying(*lines: bytes, start: bytes = b"200 OK", content: bytes = b"") -> bytes:
    return b"\r\n".join(
        (b"HTTP/1.1 " + start, *lines, b"Content-Length: %d" % len(content), b"", content)
    )


ACCEL = b"X-Accel-Redirect: /protected/a.txt"
LARGE = b"X-Accel-Redirect: /protected/large.bin"


class Below(Client):
    """A client whose upstream may name files."""

    def __init__(self, server: Server, folder: Path) -> None:
        super().__init__(server)
        self.catalog = catalog_of(folder)
        self.route.sendfile = (files_below("/protected/", folder, self.catalog),)


def catalog_of(folder: Path) -> Catalog:
    options = CatalogOptions(index=(), listing=True, compress=False, small_file_bytes=1000)
    return Catalog(folder, options, FileMemory(1 << 20))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("the file")
    (tmp_path / "files" / "large.bin").write_bytes(b"x" * 5000)
    return tmp_path / "files"


@pytest.fixture
async def below(server: Server, folder: Path) -> AsyncIterator[Below]:
    made = Below(server, folder)
    yield made
    made.group.close()
    made.group.sweep(float("inf"))


async def test_the_file_comes_with_the_fields_of_the_application(
    server: Server, below: Below
) -> None:
    server.script = answering(
        saying(ACCEL, b"Content-Type: text/x", b"Set-Cookie: a=1", content=b"its own")
    )
    answer = await below.ask(GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nthe file")
    assert b"Content-Type: text/x\r\n" in answer
    assert b"Set-Cookie: a=1\r\n" in answer
    assert b"Accept-Ranges: bytes\r\n" in answer
    assert b"X-Accel" not in answer


async def test_a_large_file_streams_and_the_content_it_replaces_is_given_up(
    server: Server, below: Below
) -> None:
    server.script = answering(saying(LARGE).replace(b": 0", b": 50000"))
    assert (await below.ask(GET)).endswith(b"\r\n\r\n" + b"x" * 5000)
    assert below.group.connections == 0


@pytest.mark.parametrize(
    ("said", "rest", "kept"),
    [
        (b"Transfer-Encoding: chunked", b"3\r\nown\r\n0\r\n\r\n", 1),
        (b"Content-Length: 3", b"own", 1),
        (b"Content-Length: 3", b"", 0),  # it says so and sends nothing
        (b"Transfer-Encoding: chunked", b"5000\r\n" + b"x" * 0x5000, 0),
        (b"Transfer-Encoding: chunked", b"nonsense", 0),
    ],
)
async def test_a_connection_lives_on_when_little_content_comes_behind_the_name(
    server: Server,
    below: Below,
    monkeypatch: pytest.MonkeyPatch,
    said: bytes,
    rest: bytes,
    kept: int,
) -> None:
    if kept:  # however slow the machine is
        monkeypatch.setattr(leftover, "LEFTOVER_S", 60.0)
    named = asyncio.Event()

    async def script(server: Server, reader: Any, writer: Any) -> None:
        while await server.head(reader):
            writer.write(saying(ACCEL).replace(b"Content-Length: 0", said))
            await named.wait()
            writer.write(rest)

    server.script = script
    assert (await below.ask(GET)).endswith(b"\r\n\r\nthe file")
    named.set()
    await until(lambda: (below.group.idle, below.group.connections) == (kept, kept))


async def test_a_head_and_a_range(server: Server, below: Below) -> None:
    server.script = answering(saying(ACCEL))
    head = await below.ask(HEAD)
    assert b"Content-Length: 8\r\n" in head
    part = await below.ask(GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=4-\r\n\r\n"))
    assert part.startswith(b"HTTP/1.1 206 ")
    assert part.endswith(b"\r\n\r\nfile")


async def test_a_post_and_an_error_get_the_whole_file(server: Server, below: Below) -> None:
    server.script = answering(saying(ACCEL), saying(ACCEL, start=b"404 Not here"))
    posted = b"POST / HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n"
    assert (await below.ask(posted)).endswith(b"\r\n\r\nthe file")
    answer = await below.ask(GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-1\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 404 Not here\r\n")
    assert answer.endswith(b"\r\n\r\nthe file")


async def test_an_answer_without_content_stays_without(server: Server, below: Below) -> None:
    server.script = answering(saying(ACCEL, start=b"304 Not Modified"))
    assert (await below.ask(GET)).startswith(b"HTTP/1.1 304 ")


async def test_x_sendfile_names_a_file_of_the_machine(
    server: Server, below: Below, folder: Path
) -> None:
    server.script = answering(saying(b"X-Sendfile: " + os.fsencode(folder / "a.txt")))
    assert (await below.ask(GET)).endswith(b"\r\n\r\nthe file")


@pytest.mark.parametrize(
    "line",
    [
        b"X-Sendfile: /etc/passwd",
        b"X-Accel-Redirect: /elsewhere/a.txt",
        b"X-Accel-Redirect: @named",
        b"X-Accel-Redirect: /protected/nothing",
        b"X-Accel-Redirect: /protected/.",
    ],
)
async def test_what_may_not_be_sent_is_a_404_and_a_warning(
    server: Server, below: Below, line: bytes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "nothing").mkdir()
    server.script = answering(saying(line))
    assert (await below.ask(GET)).startswith(b"HTTP/1.1 404 ")
    assert "file" in caplog.text


async def test_who_has_no_leave_sends_what_it_has(server: Server, client: Client) -> None:
    server.script = answering(saying(ACCEL, content=b"its own"))
    answer = await client.ask(GET)
    assert answer.endswith(b"\r\n\r\nits own")
    assert b"X-Accel" not in answer


async def test_a_file_that_changes_all_the_time_is_a_503(
    server: Server, below: Below, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def changed(representation: Representation) -> OpenFile | None:
        return None

    monkeypatch.setattr(below.catalog, "open", changed)
    server.script = answering(saying(LARGE))
    assert (await below.ask(GET)).startswith(b"HTTP/1.1 503 ")


async def test_an_early_answer_may_name_a_file(server: Server, below: Below) -> None:
    below.route.buffer_request = False

    async def early(server: Server, reader: object, writer: object) -> None:
        await server.head(reader)  # type: ignore[arg-type]
        writer.write(saying(ACCEL))  # type: ignore[attr-defined]

    server.script = early
    below.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    assert (await below.done()).endswith(b"\r\n\r\nthe file")


async def test_buffering_may_be_turned_off_for_an_answer(server: Server, client: Client) -> None:
    whole = saying(b"X-Accel-Buffering: no", content=b"x" * 3_000_000)
    server.script = answering(whole)
    answer = await client.ask(GET)
    assert answer.endswith(b"x" * 3_000_000)
    assert b"X-Accel" not in answer


async def test_a_post_answered_with_a_file_invalidates_what_is_stored(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    client = cached(server)
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = Purges(tmp_path)
    client.route.sendfile = (files_below("/protected/", folder, catalog_of(folder)),)
    server.script = answering(said(b"Cache-Control: max-age=60"), saying(ACCEL), saying(b"A: b"))
    await client.ask(GET)
    assert held(client) is not None
    posted = await client.ask(GET.replace(b"GET", b"POST"))
    assert posted.endswith(b"\r\n\r\nthe file")
    assert b"A: b" in await client.ask(GET)
    client.leave()
    client.group.close()
    cache.purges.close()


async def test_an_application_is_told_how_patient_its_route_is(server: Server) -> None:
    client = Client(server, GroupOptions(managed=True))
    client.route.private_lines = (
        (b"X-Proxyd-Read-Timeout", b"90"),
        (b"X-Proxyd-Total-Timeout", b"900"),
    )
    forged = b"\r\nX-Proxyd-Read-Timeout: 1\r\nX-Proxyd-Total-Timeout: 1\r\n\r\n"
    await client.ask(GET.replace(b"\r\n\r\n", forged))
    assert server.heads[-1].count(b"X-Proxyd-") == 2
    assert b"X-Proxyd-Read-Timeout: 90\r\n" in server.heads[-1]
    assert b"X-Proxyd-Total-Timeout: 900\r\n" in server.heads[-1]
    client.leave()
    client.group.close()
