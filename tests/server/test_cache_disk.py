"""A disk that fails in each way there is: no wrong byte, and the log says why."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from tests.process.running import wait_for
from tests.server.caching import (
    bodies,
    cache_files,
    configuration,
    is_hit,
    on_both,
    origin,
)
from tests.server.checked_load import CheckedLoad, Contents, checked_load
from tests.server.daemon import Daemon, serving
from tests.server.origin import Origin

__all__ = ["origin"]  # a fixture

# All that is read comes from the disk; content of more than 64 KiB streams.
CACHE = 'memory = "0"\nmemory_object = "64KiB"'
SIZES = (300, 40_000, 300_000)
SMALL_MIB = 16

Start = Callable[..., Daemon]


@pytest.fixture
def start(origin: Origin) -> Iterator[Start]:
    """Give a function that starts a proxyd with what is special about its cache."""
    origin.on("/for/", Contents())
    with ExitStack() as stack:
        yield lambda cache, **more: stack.enter_context(
            serving(configuration(origin, cache=cache, **more))
        )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system with little room."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a file system of a few MiB is mounted by root, on Linux")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "proxyd-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def targets(kind: str, count: int = 8) -> list[str]:
    return [f"/for/600/{size}/{kind}{number}" for size, number in product(SIZES, range(count))]


def answered(load: CheckedLoad, times: int) -> bool:
    return load.answers >= times or bool(load.failures)


def go_on(load: CheckedLoad, times: int) -> None:
    wait_for(partial(answered, load, load.answers + times), "answers")


def fill(folder: Path) -> Path:
    """Take all the room of a file system."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            return path


def test_a_full_disk_costs_nothing_but_hits(start: Start, origin: Origin, small_disk: Path) -> None:
    daemon = start(f'{CACHE}\nfolder = "{small_disk}"')
    with checked_load(origin, daemon.connect, targets("full")) as load:
        go_on(load, 100)
        fill(small_disk)
        go_on(load, 100)
        for target in targets("full", 2):
            load.purge(daemon, target)
        go_on(load, 100)
    assert load.failures == []
    assert load.broken == 0
    assert "No space left on device" in daemon.log
    assert daemon.log.count("No space left on device") < 20
    assert "started again" not in daemon.log
    assert daemon.stop() == 0
    daemon.check_clean()


def test_a_cache_that_is_larger_than_its_disk_keeps_to_it(
    start: Start, origin: Origin, small_disk: Path
) -> None:
    """`disk` says 1 GiB, of which there is a hundredth."""
    daemon = start(f'{CACHE}\nfolder = "{small_disk}"')
    with checked_load(origin, daemon.connect, targets("large", 40)) as load:
        go_on(load, 600)
    assert load.failures == []
    assert load.broken == 0
    assert daemon.stop() == 0
    daemon.check_clean()


def flip(path: Path, chosen: random.Random) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size:
            at = chosen.randrange(size)
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 1 << chosen.randrange(8)]))


def flip_somewhere(daemon: Daemon, chosen: random.Random, pattern: str) -> None:
    paths = [path for path in (daemon.folder / "var" / "cache").glob(pattern) if path.is_file()]
    try:
        flip(chosen.choice(sorted(paths)), chosen)
    except (FileNotFoundError, IndexError):
        return  # the cache has just removed it


def test_no_flipped_bit_in_a_file_of_an_entry_reaches_a_client(
    start: Start, origin: Origin
) -> None:
    daemon = start(CACHE)
    wanted, chosen = targets("flipped"), random.Random(3)
    with checked_load(origin, daemon.connect, wanted) as load:
        go_on(load, 150)
        for _ in range(100):
            flip_somewhere(daemon, chosen, "[0-9a-f][0-9a-f]/*")
            go_on(load, 5)
    assert load.failures == []
    assert load.hits > 100
    assert "a damaged file of the disk cache is removed" in daemon.log
    assert daemon.stop() == 0
    daemon.check_clean()


def test_no_flipped_bit_anywhere_in_the_folder_brings_back_what_was_purged(
    start: Start, origin: Origin
) -> None:
    daemon = start("")
    wanted, chosen = targets("anywhere", 4), random.Random(4)
    with checked_load(origin, daemon.connect, wanted) as load:
        for _ in range(20):
            target = chosen.choice(wanted)
            load.purge(daemon, target)
            for pattern in ("*", "tmp/*", "[0-9a-f][0-9a-f]/*"):
                flip_somewhere(daemon, chosen, pattern)
            go_on(load, 10)
    assert load.failures == []
    assert daemon.stop() == 0
    daemon.check_clean()


def test_a_folder_that_is_removed_is_made_again(start: Start, origin: Origin) -> None:
    daemon = start(CACHE)
    folder = daemon.folder / "var" / "cache"
    with checked_load(origin, daemon.connect, targets("removed")) as load:
        go_on(load, 150)
        assert cache_files(daemon)
        folder.rename(folder.with_name("gone"))
        go_on(load, 50)
        wait_for(lambda: cache_files(daemon), "entries on the disk")
        wait_for((folder / "purges").exists, "the purges")
        target = targets("removed")[0]
        load.purge(daemon, target)
        go_on(load, 50)
    assert load.failures == []
    assert re.search(r"WARNING worker \d: .*was removed", daemon.log)
    shutil.rmtree(folder.with_name("gone"))
    assert daemon.stop() == 0
    daemon.check_clean()


@contextmanager
def without_permission(folder: Path) -> Iterator[None]:
    """Let nobody read the folder; root can."""
    folder.chmod(0)
    yield
    folder.chmod(0o700)


@contextmanager
def behind_a_file(folder: Path) -> Iterator[None]:
    """Put something in the place of the folder that is none."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.touch()
    yield
    folder.unlink()
    aside.rename(folder)


@pytest.mark.parametrize(
    ("unreadable", "complaint"),
    [
        pytest.param(
            without_permission,
            "Permission denied",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything"),
        ),
        (behind_a_file, "Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_read_is_a_cache_without_hits(
    start: Start,
    origin: Origin,
    unreadable: Callable[[Path], AbstractContextManager[None]],
    complaint: str,
) -> None:
    daemon = start(CACHE)
    with checked_load(origin, daemon.connect, targets("unreadable")) as load:
        go_on(load, 100)
        with unreadable(daemon.folder / "var" / "cache"):
            wait_for(lambda: complaint in daemon.log, "a complaint")
            asked = len(origin.asked)
            go_on(load, 50)
            assert len(origin.asked) > asked
        hits = load.hits
        wait_for(lambda: load.hits > hits + 10, "hits again")
    assert load.failures == []
    assert load.broken == 0
    assert daemon.stop() == 0
    daemon.check_clean()


def test_two_daemons_on_one_folder_share_what_is_in_it(
    start: Start, origin: Origin, tmp_path: Path
) -> None:
    cache = f'{CACHE}\nfolder = "{tmp_path / "shared"}"'
    one, other = start(cache), start(cache)
    wanted = targets("shared")
    with (
        checked_load(origin, one.connect, wanted, 3) as load,
        checked_load(origin, other.connect, wanted, 3) as beside,
    ):
        go_on(load, 100)
        go_on(beside, 100)
        asked = {target: origin.count(target) for target in wanted}
        go_on(load, 50)
        go_on(beside, 50)
        assert asked == {target: origin.count(target) for target in wanted}
        before = bodies(on_both(other, wanted[0]))
        load.purge(one, wanted[0])
        assert bodies(on_both(other, wanted[0])).isdisjoint(before)
        assert one.stop() == 0
        load.stop()
        go_on(beside, 50)
    assert load.failures == []
    assert beside.failures == []
    assert is_hit(other.ask(wanted[0]))
    assert other.stop() == 0
    one.check_clean()
    other.check_clean()
