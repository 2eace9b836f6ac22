"""Content that is asked for again goes out from a copy in memory that cannot change."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache import sealed
from proxy.cache.disk import DiskStore
from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.disk_reader import DiskBody
from proxy.cache.sealed import AGAIN_S, CAN_SEAL, IN_USE_S, Copies, Sealed
from proxy.cache.sealed_source import SealedSource
from proxy.errors import StoredContentError
from proxy.message import NO_FILES
from proxy.page_cache import LEAST_SEND_BYTES
from proxy.rules.ranges import Span
from tests.cache.conftest import Clocks
from tests.cache.making import entry
from tests.cache.taking import Notes, Taker, taken, until

pytestmark = pytest.mark.skipif(not CAN_SEAL, reason="memory is sealed on Linux")

CONTENT = os.urandom(600_000)
LIMIT_BYTES = 10 * len(CONTENT)


@pytest.fixture
async def store(tmp_path: Path, clocks: Clocks) -> AsyncIterator[DiskStore]:
    made = DiskStore(
        tmp_path / "cache",
        Notes(),
        copies_bytes=LIMIT_BYTES,
        monotonic=lambda: clocks.monotonic,
    )
    yield made
    await made.close()


async def stored(store: DiskStore, key: bytes = b"k", content: bytes = CONTENT) -> DiskBody:
    writer = store.begin(entry(key, b""))
    assert writer is not None
    writer.write(content)
    await writer.settled()
    done = await writer.commit()
    assert done is not None
    assert isinstance(done.body, DiskBody)
    return done.body


def place(store: DiskStore, key: bytes = b"k") -> Path:
    return Path(path_of(store.root, name_of(key, b"")))


def copies_of(store: DiskStore) -> Copies:
    return store._copies


async def copied(store: DiskStore, key: bytes = b"k", content: bytes = CONTENT) -> DiskBody:
    """Store content, and ask for it until there is a copy."""
    body = await stored(store, key, content)
    before = copies_of(store).used_bytes
    for _ in range(2):
        assert (await taken(body.source())).body == content
    await until(lambda: copies_of(store).used_bytes > before)
    return body


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


async def made(store: DiskStore) -> None:
    """Wait until no copy is being made."""
    await until(lambda: copies_of(store)._making is None)


async def test_content_that_is_asked_for_again_goes_out_from_memory(store: DiskStore) -> None:
    body = await copied(store)
    source = body.source()
    assert isinstance(source, SealedSource)
    assert source.length == len(CONTENT)
    assert (await taken(source)).body == CONTENT


async def test_what_is_flipped_in_the_file_reaches_nobody(store: DiskStore) -> None:
    body = await copied(store)
    flip(place(store), body.offset + 70_000)
    assert (await taken(body.source())).body == CONTENT


async def test_a_copy_cannot_be_changed(store: DiskStore) -> None:
    body = await copied(store)
    copy = copies_of(store).find(body, store.executor)
    assert copy is not None
    with pytest.raises(PermissionError):
        os.pwrite(copy.descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(copy.descriptor, 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(copy.descriptor, fcntl.F_ADD_SEALS, 0)


async def test_damaged_content_is_not_copied(store: DiskStore) -> None:
    body = await stored(store)
    await taken(body.source())
    flip(place(store), body.offset + 500_000)
    source = body.source()
    await made(store)
    assert not copies_of(store).used_bytes
    source.cancel()


async def test_a_file_that_is_gone_or_another_is_a_miss_in_spite_of_a_copy(
    store: DiskStore,
) -> None:
    body = await copied(store)
    await stored(store, content=bytes(len(CONTENT)))
    with pytest.raises(StoredContentError):
        body.source()
    place(store).unlink()
    with pytest.raises(StoredContentError):
        body.source()


async def test_content_that_is_not_asked_for_again_soon_is_not_copied(
    store: DiskStore, clocks: Clocks
) -> None:
    body = await stored(store)
    for _ in range(3):
        await taken(body.source())
        clocks.monotonic += AGAIN_S
    assert copies_of(store)._making is None
    assert not copies_of(store).used_bytes


@pytest.mark.parametrize("size_bytes", [0, LIMIT_BYTES // 4 + 1])
async def test_content_larger_than_its_share_is_not_copied_nor_is_none_at_all(
    store: DiskStore, size_bytes: int
) -> None:
    content = bytes(size_bytes)
    body = await stored(store, content=content)
    for _ in range(3):
        assert (await taken(body.source())).body == content
    assert copies_of(store)._making is None
    assert not copies_of(store).used_bytes


async def test_room_is_made_by_what_is_not_in_use(store: DiskStore, clocks: Clocks) -> None:
    keys = [b"k%d" % number for number in range(10)]
    bodies = [await copied(store, key) for key in keys]
    assert copies_of(store).used_bytes == LIMIT_BYTES
    new = await stored(store, b"new")
    for _ in range(3):
        await taken(new.source())
    await made(store)
    assert isinstance(bodies[0].source(), SealedSource)  # and so it is not the oldest any more
    clocks.monotonic += IN_USE_S
    await taken(new.source())
    await made(store)
    assert copies_of(store).used_bytes == LIMIT_BYTES
    assert isinstance(new.source(), SealedSource)
    assert isinstance(bodies[0].source(), SealedSource)
    (source := bodies[1].source()).cancel()
    assert not isinstance(source, SealedSource)


async def test_the_number_of_copies_and_of_names_is_bounded(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "MOST_COPIES", 1)
    monkeypatch.setattr(sealed, "MOST_ASKED", 1)
    one, two = await copied(store), await stored(store, b"two")
    for _ in range(3):
        await taken(two.source())
        await taken((await stored(store, b"three")).source())
    assert len(copies_of(store)._asked_at) == 1
    await taken(two.source())
    await taken(two.source())
    await made(store)
    assert isinstance(one.source(), SealedSource)
    assert len(copies_of(store)._copies) == 1


async def test_without_memory_for_it_nothing_is_copied(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_name: str, _flags: int) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "memfd_create", refuse)
    body = await stored(store)
    for _ in range(3):
        assert (await taken(body.source())).body == CONTENT
    await made(store)
    assert not copies_of(store).used_bytes


async def test_who_reads_a_copy_keeps_it_while_it_is_let_go(store: DiskStore) -> None:
    body = await copied(store)
    source = body.source()
    copies_of(store).clear()
    assert isinstance(source, SealedSource)
    assert (await taken(source)).body == CONTENT


async def test_pieces_of_a_copy_come_in_the_order_asked_for(store: DiskStore) -> None:
    body = await copied(store)
    pieces: list[bytes | Span] = [
        b"one ",
        Span(599_990, 600_000),
        b"",
        Span(7, 7),
        Span(5, 400_000),
    ]
    source = body.source(pieces)
    assert isinstance(source, SealedSource)
    expected = b"one " + CONTENT[599_990:] + CONTENT[5:400_000]
    assert source.length == len(expected)
    assert (await taken(source)).body == expected
    assert (await taken(body.source([b"", Span(0, 0)]))).body == b""


class Sending(Taker):
    """A consumer of files, which takes some of each and asks for a pause."""

    def __init__(self, source: SealedSource, most_bytes: int) -> None:
        super().__init__()
        self.sent = 0
        self._source = source
        self._most_bytes = most_bytes

    def send_file(self, descriptor: int, offset: int, count: int) -> int:
        assert count >= LEAST_SEND_BYTES
        if not self._most_bytes:
            return NO_FILES
        data = os.pread(descriptor, min(count, self._most_bytes), offset)
        self.chunks.append(data)
        self.sent += len(data)
        self._source.pause()
        return len(data)


@pytest.mark.parametrize("most_bytes", [100_000, 0])
async def test_a_consumer_that_takes_files_may_take_less(store: DiskStore, most_bytes: int) -> None:
    source = (await copied(store)).source()
    assert isinstance(source, SealedSource)
    taker = Sending(source, most_bytes)
    source.start(taker)
    while not taker.ended.is_set():
        source.resume()
        await asyncio.sleep(0)
    assert taker.body == CONTENT
    assert bool(taker.sent) == bool(most_bytes)


async def test_nothing_is_pushed_to_who_has_given_up(store: DiskStore) -> None:
    source = (await copied(store)).source()
    taker = Taker(lambda _count: source.cancel())
    source.start(taker)
    source.resume()
    await made(store)
    assert len(taker.chunks) == 1
    assert not taker.ends


def test_the_memory_of_a_copy_is_free_when_nobody_refers_to_it() -> None:
    descriptor = os.memfd_create("test")
    copy = Sealed(descriptor, 0)
    del copy
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
