"""A file goes out in bounded memory, complete and of one version, or it breaks off."""

import asyncio
import errno
import os
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from proxy.errors import FileChangedError
from proxy.files import file_source
from proxy.files.file_source import CHUNK_BYTES, FileSource
from proxy.files.safe_open import OpenFile, open_below
from proxy.message import Fields
from proxy.rules.ranges import Span


class Taker:
    """A consumer that keeps what it gets, and does `on_feed` with each chunk."""

    def __init__(self, on_feed: Callable[[int], None] = lambda _count: None) -> None:
        self.chunks: list[bytes] = []
        self.sizes: list[int] = []
        self.keep = True
        self.error: Exception | None = None
        self.ended = asyncio.Event()
        self.ends = 0
        self.on_feed = on_feed

    def feed(self, data: bytes) -> None:
        assert data
        assert not self.ended.is_set()
        self.sizes.append(len(data))
        if self.keep:
            self.chunks.append(data)
        self.on_feed(len(self.sizes))

    def finish(self, trailers: Fields | None) -> None:
        assert trailers is None
        self.ends += 1
        self.ended.set()

    def abort(self, error: Exception) -> None:
        self.error = error
        self.ends += 1
        self.ended.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


@pytest.fixture
def content() -> bytes:
    return os.urandom(CHUNK_BYTES * 2 + 1000)


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


@pytest.fixture(params=["cached", "not cached", "cannot tell", "no such call"])
def page_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no such call":
        monkeypatch.setattr(file_source, "NOWAIT", 0)
    elif request.param != "cached":
        number = errno.EAGAIN if request.param == "not cached" else errno.EOPNOTSUPP

        def refuse(*_args: object) -> int:
            raise OSError(number, "refused")

        monkeypatch.setattr(os, "preadv", refuse, raising=False)
    return str(request.param)


def opened(path: Path) -> OpenFile:
    return open_below(str(path.parent), [path.name.encode()])


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def take(path: Path, pieces: Sequence[bytes | Span], taker: Taker | None = None) -> Taker:
    file = opened(path)
    taker = taker or Taker()
    FileSource(file, pieces).start(taker)
    await taker.ended.wait()
    assert file.descriptor == -1
    assert taker.ends == 1
    return taker


@pytest.mark.usefixtures("page_cache")
async def test_a_whole_file_arrives(path: Path, content: bytes) -> None:
    taker = await take(path, [Span(0, len(content))])
    assert taker.error is None
    assert taker.body == content
    assert max(taker.sizes) <= CHUNK_BYTES


@pytest.mark.usefixtures("page_cache")
async def test_pieces_arrive_in_their_order(path: Path, content: bytes) -> None:
    pieces: list[bytes | Span] = [
        b"one",
        Span(5, 5),
        Span(CHUNK_BYTES - 3, CHUNK_BYTES + 3),
        b"",
        Span(0, 2),
        b"end",
    ]
    source = FileSource(opened(path), pieces)
    assert source.length == 3 + 6 + 2 + 3
    taker = await take(path, pieces)
    assert taker.body == b"one" + content[CHUNK_BYTES - 3 : CHUNK_BYTES + 3] + content[:2] + b"end"


async def test_no_pieces_are_an_empty_body(path: Path) -> None:
    taker = await take(path, [])
    assert taker.body == b""
    assert taker.error is None


async def test_short_reads_are_made_up_for(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_source, "NOWAIT", 0)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 9999), offset))
    taker = await take(path, [Span(0, len(content))])
    assert taker.body == content


@pytest.mark.usefixtures("page_cache")
async def test_a_paused_source_pushes_nothing(path: Path, content: bytes) -> None:
    taker = Taker(on_feed=lambda _count: source.pause())
    source = FileSource(opened(path), [Span(0, len(content))])
    source.start(taker)
    for expected in (1, 2, 3):
        await until(lambda: len(taker.sizes) >= expected)  # noqa: B023
        await some_turns()
        assert len(taker.sizes) == expected
        source.resume()
        source.resume()
    await taker.ended.wait()
    assert taker.body == content


async def test_one_chunk_goes_out_in_a_turn_of_the_loop(path: Path, content: bytes) -> None:
    turns: list[int] = []
    taker = Taker(on_feed=turns.append)
    FileSource(opened(path), [Span(0, len(content))]).start(taker)
    assert len(turns) <= 1
    await taker.ended.wait()


@pytest.mark.usefixtures("page_cache")
async def test_a_file_that_becomes_shorter_breaks_off(path: Path, content: bytes) -> None:
    taker = Taker(on_feed=lambda count: os.truncate(path, 10) if count == 1 else None)
    await take(path, [Span(0, len(content))], taker)
    assert isinstance(taker.error, FileChangedError)
    assert taker.body == content[:CHUNK_BYTES]


@pytest.mark.usefixtures("page_cache")
async def test_a_file_that_is_written_to_breaks_off(path: Path, content: bytes) -> None:
    def overwrite(count: int) -> None:
        if count == 1:
            path.write_bytes(bytes(len(content)))
            os.utime(path, ns=(1, 1))  # certainly another time

    taker = await take(path, [Span(0, len(content))], Taker(overwrite))
    assert isinstance(taker.error, FileChangedError)
    assert taker.body == content[:CHUNK_BYTES]


@pytest.mark.usefixtures("page_cache")
async def test_a_file_that_is_replaced_goes_out_as_it_was(
    path: Path, content: bytes, tmp_path: Path
) -> None:
    def replace(count: int) -> None:
        if count == 1:
            (tmp_path / "new").write_bytes(b"new")
            (tmp_path / "new").replace(path)

    taker = await take(path, [Span(0, len(content))], Taker(replace))
    assert taker.error is None
    assert taker.body == content


async def test_a_read_error_breaks_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail, raising=False)
    monkeypatch.setattr(os, "pread", fail)
    taker = await take(path, [Span(0, 10)])
    assert isinstance(taker.error, FileChangedError)
    assert "Input/output error" in str(taker.error)


async def test_a_cancelled_source_closes_its_file_and_is_silent(path: Path, content: bytes) -> None:
    file = opened(path)
    taker = Taker(on_feed=lambda _count: source.cancel())
    source = FileSource(file, [Span(0, len(content))])
    source.start(taker)
    await until(lambda: bool(taker.sizes))
    assert file.descriptor == -1
    await some_turns()
    assert len(taker.sizes) == 1
    assert taker.ends == 0


async def test_a_source_cancelled_with_its_last_chunk_does_not_finish(path: Path) -> None:
    taker = Taker(on_feed=lambda _count: source.cancel())
    source = FileSource(opened(path), [b"all of it"])
    source.start(taker)
    await some_turns()
    assert taker.sizes == [9]
    assert taker.ends == 0


async def test_a_source_cancelled_before_its_start_closes_its_file(path: Path) -> None:
    file = opened(path)
    source = FileSource(file, [Span(0, 10)])
    source.resume()
    source.cancel()
    source.cancel()
    assert file.descriptor == -1


async def test_a_file_is_not_closed_while_a_thread_reads_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(_descriptor: int, _size: int, _offset: int) -> bytes:
        entered.set()
        leave.wait(10)
        return b"late"

    monkeypatch.setattr(file_source, "NOWAIT", 0)
    monkeypatch.setattr(os, "pread", slow)
    file = opened(path)
    taker = Taker()
    source = FileSource(file, [Span(0, 10)])
    source.start(taker)
    await asyncio.get_running_loop().run_in_executor(None, entered.wait, 10)
    source.resume()
    source.cancel()
    assert file.descriptor >= 0
    leave.set()
    await until(lambda: file.descriptor < 0)
    assert taker.sizes == []
    assert taker.ends == 0


async def test_a_huge_file_needs_no_more_memory_than_a_few_chunks(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    size = 128 * 1024 * 1024
    with path.open("wb") as file:
        file.truncate(size)
    taker = Taker()
    taker.keep = False
    tracemalloc.start()
    try:
        await take(path, [Span(0, size)], taker)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(taker.sizes) == size
    assert peak < 6 * CHUNK_BYTES
