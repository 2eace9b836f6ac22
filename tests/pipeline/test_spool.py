"""An answer that waits for its client: every byte, in order, in bounded memory and disk."""

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import HttpError, UpstreamError
from proxy.message import Consumer, Fields
from proxy.pipeline.spool import BACKLOG_BYTES, READ_BYTES, Spool
from tests.pipeline.bodies import Pushed, Taken, until

PATTERN = bytes(range(251)) * 40_000  # 10 MB, no period that a buffer has
DESCRIPTORS = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc")


class Spooled:
    """A spool with small bounds between a source and a client that a test moves by hand."""

    def __init__(self, folder: Path | None, memory: int = 100, limit: int = 1 << 30) -> None:
        self.source = Pushed(len(PATTERN))
        self.client = Taken()
        self.spool = Spool(self.source, str(folder) if folder else None, memory, limit)
        self.sent = 0

    def start(self) -> "Spooled":
        self.spool.start(self.client)
        return self

    def send(self, size: int) -> None:
        self.source.to.feed(PATTERN[self.sent : self.sent + size])
        self.sent += size

    @property
    def waiting(self) -> int:
        return self.sent - len(self.client.data)

    async def settled(self) -> None:
        """Let the file take what memory has no room for."""
        await until(self._at_rest)

    def _at_rest(self) -> bool:
        wake = self.spool._wake
        return self.spool._task is None or (wake is not None and not wake.done())

    async def assert_whole(self) -> None:
        await until(lambda: self.client.finished)
        assert self.client.data == PATTERN[: self.sent]


def open_files(folder: Path) -> list[int]:
    found = []
    for name in os.listdir(DESCRIPTORS):
        try:
            target = os.readlink(DESCRIPTORS / name)
        except FileNotFoundError:
            continue
        if target.startswith(f"{folder}/"):
            found.append(int(name))
    return found


async def test_a_client_that_keeps_up_gets_everything_at_once() -> None:
    spooled = Spooled(None).start()
    spooled.send(1000)
    assert spooled.waiting == 0
    trailers = Fields([(b"A", b"b")])
    spooled.source.to.finish(trailers)
    assert spooled.client.finished
    assert spooled.client.trailers is trailers
    assert spooled.spool.length == len(PATTERN)


async def test_a_little_waits_in_memory() -> None:
    spooled = Spooled(None).start()
    spooled.spool.pause()
    spooled.send(60)
    spooled.send(40)
    spooled.source.to.finish(None)
    assert not spooled.client.data
    spooled.spool.resume()
    assert spooled.client.finished
    await spooled.assert_whole()


async def test_a_client_that_is_slow_before_it_begins_loses_nothing() -> None:
    spooled = Spooled(None)
    spooled.spool.pause()
    spooled.start()
    spooled.send(10)
    assert not spooled.client.data
    spooled.spool.resume()
    assert spooled.waiting == 0


async def test_a_client_that_becomes_slow_again_in_the_middle_is_left_alone() -> None:
    spooled = Spooled(None).start()
    spooled.spool.pause()
    spooled.send(10)
    spooled.send(10)
    spooled.client.then = spooled.spool.pause
    spooled.spool.resume()
    assert spooled.waiting == 10


async def test_a_lot_waits_in_a_file_and_the_upstream_is_free(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    for _ in range(50):
        spooled.send(100_000)
        await spooled.settled()
        assert spooled.spool._held <= 100
    spooled.source.to.finish(None)
    assert not spooled.source.paused
    assert not spooled.client.data
    spooled.spool.resume()
    await spooled.assert_whole()


async def test_what_comes_while_the_file_is_read_goes_behind_it(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    spooled.send(3 * READ_BYTES)
    await spooled.settled()
    spooled.client.then = lambda: spooled.send(50) if spooled.sent < 4 * READ_BYTES else None
    spooled.spool.resume()
    await until(lambda: len(spooled.client.data) > 2 * READ_BYTES)
    spooled.client.then = lambda: None
    spooled.source.to.finish(None)
    await spooled.assert_whole()


async def test_after_the_file_it_goes_straight_through_again(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    spooled.send(1000)
    await spooled.settled()
    spooled.spool.resume()
    await until(lambda: spooled.waiting == 0 and spooled.spool._task is None)
    spooled.send(1000)
    assert spooled.waiting == 0
    spooled.source.to.finish(None)
    await spooled.assert_whole()


async def test_more_than_the_limit_holds_the_upstream_back(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path, limit=1000).start()
    spooled.spool.pause()
    spooled.send(600)
    await spooled.settled()
    assert not spooled.source.paused
    spooled.send(400)
    assert spooled.source.paused
    spooled.spool.resume()
    await until(lambda: not spooled.source.paused)
    assert spooled.waiting == 0
    spooled.source.to.finish(None)
    await spooled.assert_whole()


async def test_a_limit_below_what_memory_takes_holds_the_upstream_back_as_well() -> None:
    spooled = Spooled(None, memory=1000, limit=10).start()
    spooled.spool.pause()
    spooled.send(10)
    assert spooled.source.paused
    spooled.spool.resume()
    assert not spooled.source.paused


async def test_the_upstream_is_held_back_while_the_file_is_slow(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    while not spooled.source.paused:
        spooled.send(100_000)  # and the file's task has had no turn yet
    assert spooled.spool._held <= BACKLOG_BYTES + 100_100
    await until(lambda: not spooled.source.paused)
    spooled.spool.resume()
    spooled.source.to.finish(None)
    await spooled.assert_whole()


@needs_proc
async def test_a_client_that_is_always_behind_does_not_make_the_file_grow(tmp_path: Path) -> None:
    limit = 1_000_000
    spooled = Spooled(tmp_path, limit=limit).start()
    spooled.client.then = spooled.spool.pause
    largest = 0
    while spooled.sent < 9_000_000:
        while not spooled.source.paused and spooled.sent < 9_000_000:
            spooled.send(50_000)
            await spooled.settled()
            for descriptor in open_files(tmp_path):
                largest = max(largest, os.fstat(descriptor).st_size)
        spooled.spool.resume()
        await until(lambda: spooled.spool._paused or not spooled.source.paused)
    assert 0 < largest <= limit + 50_000
    spooled.client.then = lambda: None
    spooled.spool.resume()
    spooled.source.to.finish(None)
    await spooled.assert_whole()


async def test_an_upstream_that_breaks_off_breaks_the_answer_at_once(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    spooled.send(1000)
    await spooled.settled()
    spooled.send(50)
    error = UpstreamError("gone")
    spooled.source.to.abort(error)
    assert spooled.client.error is error
    await until(lambda: spooled.spool._task is None)
    spooled.spool.resume()
    spooled.spool.cancel()
    assert not spooled.source.cancelled


async def test_an_upstream_that_breaks_off_with_nothing_waiting_breaks_the_answer() -> None:
    spooled = Spooled(None).start()
    spooled.source.to.abort(UpstreamError("gone"))
    assert spooled.client.error is not None


@needs_proc
@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("end", ["client", "upstream"])
async def test_it_may_end_at_any_point_and_leaves_no_file(
    turns: int, end: str, tmp_path: Path
) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    spooled.send(500_000)
    for turn in range(turns):
        if turn == 6:
            spooled.spool.resume()
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, int)
    if end == "client":
        spooled.spool.cancel()
        assert spooled.source.cancelled
        spooled.send(1000)  # what was under way
    else:
        spooled.source.to.abort(UpstreamError("gone"))
    got = len(spooled.client.data)
    await until(lambda: spooled.spool._task is None)
    assert not open_files(tmp_path)
    assert len(spooled.client.data) == got
    assert not spooled.client.finished


async def test_a_client_that_leaves_before_it_began_frees_the_upstream() -> None:
    spooled = Spooled(None)
    spooled.spool.cancel()
    assert spooled.source.cancelled


async def test_a_client_that_leaves_behind_the_end_cancels_nothing() -> None:
    spooled = Spooled(None).start()
    spooled.spool.pause()
    spooled.send(10)
    spooled.source.to.finish(None)
    spooled.spool.cancel()
    assert not spooled.source.cancelled
    assert not spooled.client.ended


async def test_without_a_folder_for_files_the_upstream_waits_for_the_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "missing"
    spooled = Spooled(missing).start()
    spooled.spool.pause()
    spooled.send(1000)
    await until(lambda: spooled.spool._task is None)
    assert spooled.source.paused
    assert str(missing) in caplog.text
    spooled.spool.resume()
    assert not spooled.source.paused
    assert spooled.waiting == 0
    spooled.spool.pause()
    spooled.send(1000)
    assert spooled.spool._task is None  # it is not tried again
    spooled.spool.resume()
    spooled.source.to.finish(None)
    await spooled.assert_whole()


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file grow over `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_disk_that_fills_costs_no_byte_and_repeats_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    with files_up_to(250_000):
        spooled.send(100_000)
        await spooled.settled()
        spooled.send(100_000)
        await spooled.settled()
        spooled.send(100_000)  # half of it fits
        await spooled.settled()
        assert spooled.spool._held == 100_000
        assert spooled.source.paused
        assert "cannot wait in a file" in caplog.text
        spooled.spool.resume()
        await until(lambda: spooled.waiting == 0)
    assert not spooled.source.paused
    spooled.send(1000)
    spooled.source.to.finish(None)
    await spooled.assert_whole()


@needs_proc
@pytest.mark.parametrize("ended", [True, False])
async def test_what_cannot_be_read_back_breaks_the_answer(ended: bool, tmp_path: Path) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    spooled.send(1000)
    await spooled.settled()
    spooled.send(50)
    if ended:
        spooled.source.to.finish(None)
    write_only = os.open("/dev/null", os.O_WRONLY)
    os.dup2(write_only, open_files(tmp_path)[0])
    os.close(write_only)
    spooled.spool.resume()
    await until(lambda: spooled.client.ended)
    assert type(spooled.client.error) is HttpError
    assert not spooled.client.data
    assert spooled.source.cancelled != ended


async def test_a_client_that_breaks_off_while_it_is_fed_gets_nothing_more(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path).start()
    spooled.spool.pause()
    spooled.send(3 * READ_BYTES)
    await spooled.settled()
    spooled.client.then = spooled.spool.cancel
    spooled.spool.resume()
    await until(lambda: spooled.spool._task is None)
    assert len(spooled.client.data) == READ_BYTES
    assert spooled.source.cancelled


async def test_a_source_that_is_whole_from_its_start_is_passed_on() -> None:
    def whole(consumer: Consumer) -> None:
        consumer.feed(b"abc")
        consumer.finish(None)

    client = Taken()
    Spool(Pushed(3, whole), None, 10, 100).start(client)
    assert client.data == b"abc"
    assert client.finished


STEP = st.one_of(
    st.integers(1, 3000).map(lambda size: ("send", size)),
    st.sampled_from([("pause", 0), ("resume", 0), ("turn", 0), ("settle", 0)]),
)


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(STEP, max_size=40), limit=st.sampled_from([50, 1000, 5000, 1 << 30]))
def test_whatever_the_order_the_client_gets_the_bytes_and_then_the_end(
    steps: list[tuple[str, int]], limit: int
) -> None:
    async def drive(folder: Path) -> None:
        spooled = Spooled(folder, limit=limit).start()
        for what, size in steps:
            if what == "send":
                if not spooled.source.paused:
                    spooled.send(size)
            elif what == "pause":
                spooled.spool.pause()
            elif what == "resume":
                spooled.spool.resume()
            elif what == "turn":
                await asyncio.sleep(0)
            else:
                await spooled.settled()
            assert spooled.client.data == PATTERN[: len(spooled.client.data)]
            assert spooled.spool._held <= BACKLOG_BYTES + 3100
            assert spooled.waiting < limit + 3100
        spooled.source.to.finish(None)
        spooled.spool.resume()
        await spooled.assert_whole()
        assert spooled.spool._task is None

    with TemporaryDirectory() as folder:
        asyncio.run(drive(Path(folder)))


async def test_an_upstream_that_breaks_off_behind_its_client_tells_nobody() -> None:
    spooled = Spooled(None).start()
    spooled.spool.cancel()
    spooled.source.to.abort(UpstreamError("gone"))
    assert not spooled.client.ended
