"""What is in memory, what is asked of the disk, and when."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import HttpError, NotFoundError, OverloadedError
from proxy.files import catalog as catalog_module
from proxy.files.asset import OVERHEAD_BYTES, Asset
from proxy.files.catalog import ATTEMPTS, Catalog, load
from proxy.files.disk import Listing, NeedsSlash, locate
from proxy.files.memory import FileMemory
from proxy.files.options import CatalogOptions
from proxy.rules.negotiation import IDENTITY

TEXT = "It was the best of times, it was the worst of times. " * 100
LONG_AGO = 1_700_000_000


class Hand:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """A root, a catalog on it, and a count of the looks at the disk."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.clock = Hand()
        self.memory = FileMemory(1 << 20)
        self.looks: list[bytes] = []
        self.loads: list[bytes] = []

        def count_look(*args: object) -> object:
            self.looks.append(args[1])  # type: ignore[arg-type]
            return locate(*args)  # type: ignore[arg-type]

        def count_load(*args: object) -> object:
            self.loads.append(args[0])  # type: ignore[arg-type]
            return load(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(catalog_module, "locate", count_look)
        monkeypatch.setattr(catalog_module, "load", count_load)

    def catalog(self, **options: object) -> Catalog:
        return Catalog(self.root, CatalogOptions(**options), self.memory, self.clock)  # type: ignore[arg-type]

    def write(self, name: str, text: str = TEXT, at_s: int = LONG_AGO) -> Path:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (at_s, at_s))
        return path


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    # A change time cannot be set: without this, files of a test always count as just changed.
    monkeypatch.setattr(catalog_module, "SETTLED_NS", -1)
    return Disk(tmp_path, monkeypatch)


async def find(catalog: Catalog, key: bytes) -> Asset:
    found = await catalog.find(key)
    assert isinstance(found, Asset)
    return found


def body(asset: Asset) -> str:
    return (asset.representations[IDENTITY].body or b"").decode()


async def all_looks(catalog: Catalog) -> None:
    await asyncio.gather(*catalog._looks.values(), return_exceptions=True)
    await asyncio.sleep(0)


async def test_a_file_is_read_once_and_then_held(disk: Disk) -> None:
    disk.write("a.txt")
    catalog = disk.catalog()
    assert catalog.held(b"a.txt") is None
    asset = await find(catalog, b"a.txt")
    assert body(asset) == TEXT
    assert catalog.held(b"a.txt") is asset
    assert await find(catalog, b"a.txt") is asset
    assert disk.looks == [b"a.txt"]


async def test_requests_at_the_same_time_load_a_file_once(disk: Disk) -> None:
    disk.write("a.txt")
    catalog = disk.catalog()
    assets = await asyncio.gather(*(find(catalog, b"a.txt") for _ in range(50)))
    assert len(set(map(id, assets))) == 1
    assert disk.looks == disk.loads == [b"a.txt"]


async def test_a_waiter_that_leaves_does_not_take_the_load_with_it(disk: Disk) -> None:
    disk.write("a.txt")
    catalog = disk.catalog()
    leaver = asyncio.ensure_future(catalog.find(b"a.txt"))
    stayer = asyncio.ensure_future(find(catalog, b"a.txt"))
    await asyncio.sleep(0)
    leaver.cancel()
    assert body(await stayer) == TEXT
    assert leaver.cancelled()


async def test_within_a_second_the_disk_is_not_asked(disk: Disk) -> None:
    disk.write("a.txt", "old")
    catalog = disk.catalog()
    asset = await find(catalog, b"a.txt")
    disk.write("a.txt", "new")
    disk.clock.now += 0.99
    assert catalog.held(b"a.txt") is asset
    await all_looks(catalog)
    assert len(disk.looks) == 1


async def test_after_a_second_one_look_is_taken_in_the_background(disk: Disk) -> None:
    disk.write("a.txt", "old")
    catalog = disk.catalog()
    asset = await find(catalog, b"a.txt")
    disk.write("a.txt", "new one")
    disk.clock.now += 1.5
    for _ in range(10):
        assert catalog.held(b"a.txt") is asset
    await all_looks(catalog)
    assert len(disk.looks) == 2
    held = catalog.held(b"a.txt")
    assert held is not None
    assert body(held) == "new one"


async def test_an_unchanged_file_is_looked_at_and_not_read_again(disk: Disk) -> None:
    disk.write("a.txt")
    catalog = disk.catalog()
    asset = await find(catalog, b"a.txt")
    disk.clock.now += 1.5
    catalog.held(b"a.txt")
    await all_looks(catalog)
    disk.clock.now += 0.9
    assert catalog.held(b"a.txt") is asset
    assert len(disk.looks) == 2
    assert len(disk.loads) == 1


async def test_after_nearly_two_seconds_a_request_waits_for_the_look(disk: Disk) -> None:
    disk.write("a.txt", "old")
    catalog = disk.catalog()
    await find(catalog, b"a.txt")
    disk.write("a.txt", "new one")
    disk.clock.now += 1.91
    assert catalog.held(b"a.txt") is None
    assert body(await find(catalog, b"a.txt")) == "new one"


async def test_with_no_interval_every_request_looks(disk: Disk) -> None:
    disk.write("a.txt", "old")
    catalog = disk.catalog(check_interval_s=0.0)
    await find(catalog, b"a.txt")
    disk.write("a.txt", "new one")
    assert body(await find(catalog, b"a.txt")) == "new one"


async def test_with_no_interval_a_look_that_began_before_does_not_count(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write("a.txt", "old")
    catalog = disk.catalog(check_interval_s=0.0)
    located, go_on = threading.Event(), threading.Event()

    def slow(*args: object) -> object:
        found = locate(*args)  # type: ignore[arg-type]
        located.set()
        go_on.wait(30)
        return found

    monkeypatch.setattr(catalog_module, "locate", slow)
    first = asyncio.create_task(find(catalog, b"a.txt"))
    await asyncio.to_thread(located.wait, 30)
    replace(disk.write("a.txt", "old"))
    second = asyncio.create_task(find(catalog, b"a.txt"))
    await asyncio.sleep(0)
    go_on.set()
    await first
    assert body(await second) == "b" * 500


def overwrite(path: Path) -> None:
    path.write_text("b" * 500)


def replace(path: Path) -> None:
    path.with_suffix(".new").write_text("b" * 500)
    path.with_suffix(".new").replace(path)


def add_sibling(path: Path) -> None:
    path.with_suffix(".txt.gz").write_bytes(b"zipped")


@pytest.mark.parametrize("change", [overwrite, replace, add_sibling])
async def test_every_kind_of_change_is_seen(disk: Disk, change: Callable[[Path], object]) -> None:
    path = disk.write("a.txt", "a" * 500)
    catalog = disk.catalog()
    before = await find(catalog, b"a.txt")
    change(path)
    if path.read_text().startswith("b"):
        os.utime(path, (LONG_AGO, LONG_AGO))  # same size, same time of modification
    disk.clock.now += 2
    after = await find(catalog, b"a.txt")
    assert after is not before
    assert after.representations.keys() - before.representations.keys() or body(after) == "b" * 500


async def test_a_file_that_just_changed_is_read_again_though_nothing_shows(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "SETTLED_NS", 10**15)
    disk.write("a.txt")
    catalog = disk.catalog()
    before = await find(catalog, b"a.txt")
    assert not before.settled
    disk.clock.now += 2
    after = await find(catalog, b"a.txt")
    assert len(disk.loads) == 2
    etags = {asset.representations[IDENTITY].etag for asset in (before, after)}
    assert len(etags) == 1  # named by content


async def test_a_removed_file_is_gone_and_comes_back(disk: Disk) -> None:
    path = disk.write("a.txt")
    catalog = disk.catalog()
    await find(catalog, b"a.txt")
    path.unlink()
    disk.clock.now += 1.5
    assert catalog.held(b"a.txt") is not None
    await all_looks(catalog)
    assert catalog.held(b"a.txt") is None
    assert disk.memory.used_bytes == 0
    with pytest.raises(NotFoundError):
        await catalog.find(b"a.txt")
    disk.write("a.txt")
    assert body(await find(catalog, b"a.txt")) == TEXT


async def test_a_file_that_becomes_a_folder_is_one(disk: Disk) -> None:
    path = disk.write("a")
    catalog = disk.catalog()
    await find(catalog, b"a")
    path.unlink()
    disk.write("a/index.html")
    disk.clock.now += 2
    assert await catalog.find(b"a") == NeedsSlash()
    assert catalog.held(b"a") is None


async def test_text_is_compressed_once(disk: Disk) -> None:
    disk.write("a.txt")
    disk.write("a.png")
    disk.write("small.txt", "small")
    catalog = disk.catalog()
    assert (await find(catalog, b"a.txt")).codings == (b"br", b"zstd", b"gzip")
    assert (await find(catalog, b"a.png")).codings == ()
    assert (await find(catalog, b"small.txt")).codings == ()
    assert (await find(disk.catalog(compress=False), b"a.txt")).codings == ()


async def test_siblings_are_used_and_the_missing_ones_made(disk: Disk) -> None:
    disk.write("a.txt")
    disk.write("a.txt.gz", "not really gzip")
    asset = await find(disk.catalog(), b"a.txt")
    assert asset.codings == (b"br", b"zstd", b"gzip")
    assert asset.representations[b"gzip"].body == b"not really gzip"
    asset = await find(disk.catalog(compress=False), b"a.txt")
    assert asset.codings == (b"gzip",)


async def test_a_large_file_is_streamed_and_its_small_sibling_held(disk: Disk) -> None:
    disk.write("a.txt")
    disk.write("a.txt.br", "small")
    catalog = disk.catalog(small_file_bytes=100)
    asset = await find(catalog, b"a.txt")
    assert asset.codings == (b"br",)  # nothing is compressed that is not read
    large = asset.representations[IDENTITY]
    assert large.body is None
    assert large.length == len(TEXT)
    assert asset.representations[b"br"].body == b"small"
    file = await catalog.open(large)
    assert file is not None
    file.close()


async def test_a_streamed_file_that_was_replaced_is_not_opened(disk: Disk) -> None:
    path = disk.write("a.txt")
    catalog = disk.catalog(small_file_bytes=100)
    large = (await find(catalog, b"a.txt")).representations[IDENTITY]
    (disk.root / "new").write_text(TEXT)
    (disk.root / "new").replace(path)
    assert await catalog.open(large) is None
    path.unlink()
    assert await catalog.open(large) is None
    path.mkdir()
    assert await catalog.open(large) is None


async def test_the_memory_is_bounded(disk: Disk) -> None:
    disk.memory = FileMemory(3 * (OVERHEAD_BYTES + 1000))
    catalog = disk.catalog(compress=False)
    for number in range(10):
        disk.write(f"{number}.txt", "x" * 1000)
        await find(catalog, b"%d.txt" % number)
    assert [number for number in range(10) if catalog.held(b"%d.txt" % number)] == [7, 8, 9]


async def test_a_file_larger_than_the_memory_is_served_and_not_held(disk: Disk) -> None:
    disk.memory = FileMemory(1000)
    disk.write("a.txt")
    catalog = disk.catalog()
    assert body(await find(catalog, b"a.txt")) == TEXT
    assert catalog.held(b"a.txt") is None


async def test_an_evicted_older_asset_does_not_take_the_newer_with_it(disk: Disk) -> None:
    disk.write("a.txt")
    catalog = disk.catalog()
    older = await find(catalog, b"a.txt")
    disk.write("a.txt", "new one")
    disk.clock.now += 2
    newer = await find(catalog, b"a.txt")
    catalog.evicted(older)
    assert catalog.held(b"a.txt") is newer


async def test_a_closed_catalog_holds_nothing_and_still_answers(disk: Disk) -> None:
    disk.write("a.txt")
    catalog = disk.catalog()
    await find(catalog, b"a.txt")
    catalog.close()
    assert disk.memory.used_bytes == 0
    assert body(await find(catalog, b"a.txt")) == TEXT
    assert disk.memory.used_bytes == 0


async def test_candidates_are_tried_in_their_order(disk: Disk) -> None:
    disk.write("index.html", "app")
    disk.write("about.html", "about")
    disk.write("about us.html", "us")
    disk.write("docs/index.html", "docs")
    disk.write("pages/x", "x")
    catalog = disk.catalog(try_files=("{path}", "{path}.html", "/pages/{path}", "/index.html"))
    assert body(await find(catalog, b"about.html")) == "about"
    assert body(await find(catalog, b"about")) == "about"
    assert body(await find(catalog, b"about%20us")) == "us"
    assert body(await find(catalog, b"x")) == "x"
    assert await catalog.find(b"docs") == NeedsSlash()
    assert body(await find(catalog, b"docs/")) == "docs"
    deep = await find(catalog, b"any/deep/link")
    assert body(deep) == "app"
    assert await find(catalog, b"another/link") is deep  # one copy in memory
    assert body(await find(catalog, b"")) == "app"


async def test_candidates_that_are_all_missing_are_not_found(disk: Disk) -> None:
    disk.write("docs/index.html")
    catalog = disk.catalog(try_files=("{path}", "/docs", "/none.html"))
    with pytest.raises(NotFoundError, match="none of the candidates"):
        await catalog.find(b"x")


async def test_candidates_do_not_lead_out_of_the_root(disk: Disk) -> None:
    (disk.root.parent / "secret.html").write_text("secret")
    catalog = disk.catalog(try_files=("{path}.html", "/../secret.html"))
    with pytest.raises(NotFoundError):
        await catalog.find(b"..%2Fsecret")


async def test_a_folder_can_be_listed(disk: Disk) -> None:
    disk.write("a.txt")
    assert isinstance(await disk.catalog(listing=True).find(b""), Listing)


async def test_a_file_that_never_rests_is_refused_for_now(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disk.write("a.txt")
    pread = os.pread

    def write_too(descriptor: int, size: int, offset: int) -> bytes:
        path.write_text(TEXT + "x" * (len(path.read_text()) - len(TEXT) + 1))
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", write_too)
    with pytest.raises(OverloadedError, match="faster than it can be read"):
        await disk.catalog().find(b"a.txt")
    assert len(disk.loads) == ATTEMPTS


async def test_a_read_error_is_an_error_of_the_server(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write("a.txt")

    def fail(*_args: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(HttpError, match="Input/output error") as caught:
        await disk.catalog().find(b"a.txt")
    assert caught.value.status == 500


async def test_a_time_in_the_future_is_not_sent(disk: Disk) -> None:
    disk.write("a.txt", at_s=4_000_000_000)
    asset = await find(disk.catalog(), b"a.txt")
    assert asset.representations[IDENTITY].last_modified < 4_000_000_000


async def test_what_is_served_is_always_one_version_while_a_file_is_replaced(
    tmp_path: Path,
) -> None:
    """A thread replaces the file all the time; every body consists of one letter."""
    path = tmp_path / "a.txt"
    path.write_text("a" * 50_000)
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for letter in "bcd":
                path.with_suffix(".new").write_text(letter * 50_000)
                path.with_suffix(".new").replace(path)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        catalog = Catalog(tmp_path, CatalogOptions(check_interval_s=0.0), FileMemory(1 << 20))
        for _ in range(40):
            asset = await find(catalog, b"a.txt")
            text = body(asset)
            assert len(text) == 50_000
            assert len(set(text)) == 1
    finally:
        stop.set()
        writer.join()
