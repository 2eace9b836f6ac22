"""A real keeper process, as its master starts it: a line on stdin, its lock, signals, kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.cache.boot import boot_name
from proxy.cache.codec import encode
from proxy.cache.disk_file import ID_BYTES, fixed_layout, whole_file
from proxy.cache.disk_folder import name_of, store_whole
from proxy.cache.head import Now
from proxy.cache.index import BLOCK_BYTES, INDEX
from proxy.cache.inventory import Inventory, InventoryError, Stats
from proxy.cache.journal import Journal
from proxy.config.load import load
from proxy.errors import StartError
from proxy.process.cache_keeper import LOCK_FILE
from proxy.process.children import Child
from proxy.process.keepers import KEEPER_COMMAND, KeeperProgram
from tests.cache.making import entry
from tests.process.running import Daemon, wait_for

SERVED = """
[server]
workers = 1
[[listen]]
address = "127.0.0.1:0"
[app.timeline]
wsgi = "timeline:app"
[[route]]
path = "/*"
to = "timeline"
"""


class Running:
    """One keeper of a folder."""

    def __init__(self, folder: Path, *, limit_bytes: int = 1 << 40, log: str = "stderr") -> None:
        self.folder = folder
        self.errors = folder.parent / f"stderr-{time.monotonic_ns()}"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(KEEPER_COMMAND, stdin=subprocess.PIPE, stderr=errors)
        self.document = {
            "folder": str(folder), "limit_bytes": limit_bytes, "log": log, "level": "info"
        }  # fmt: skip

    def begin(self) -> "Running":
        self.say(json.dumps(self.document).encode() + b"\n")
        return self

    def say(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    @property
    def said(self) -> str:
        return self.errors.read_text()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.said, text)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(**options: object) -> Running:
        started.append(Running(tmp_path / "cache", **options))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for running in started:
        running.close()


def store(folder: Path, journal: Journal, number: int) -> None:
    """Store an entry as a worker does."""
    now = Now(time.time(), time.monotonic(), boot_name())
    made = entry(b"http://h/%d" % number, keep_until=now.monotonic + 3600)
    head = encode(made, now)
    layout = fixed_layout(bytes(ID_BYTES), head)
    name = name_of(made.key, b"")
    size = store_whole(str(folder), name, whole_file(layout, head, b"content"))
    journal.put(name, size, now.wall + 3600)


def stats(folder: Path) -> Stats | None:
    """Return what the catalogue says now; None while there is none."""
    try:
        inventory = Inventory(folder)
    except InventoryError:
        return None
    try:
        return inventory.stats()
    except InventoryError:
        return None
    finally:
        inventory.close()


def files(folder: Path) -> int:
    return len(list(folder.glob("??/*")))


def described(folder: Path) -> int:
    found = stats(folder)
    return -1 if found is None else found.files - found.unread


def test_it_makes_the_folder_and_keeps_what_is_stored_there(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    keeper = start().begin()
    keeper.wait_for("keeps the cache in")
    journal = Journal(keeper.folder)
    for number in range(5):
        store(keeper.folder, journal, number)
    journal.close()
    wait_for(lambda: described(keeper.folder) == 5, "five entries in the catalogue")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert keeper.end() == 0


def test_it_keeps_the_limit(start: Callable[..., Running]) -> None:
    keeper = start(limit_bytes=10 * BLOCK_BYTES).begin()
    keeper.wait_for("keeps the cache in")
    journal = Journal(keeper.folder)
    for number in range(30):
        store(keeper.folder, journal, number)
    journal.close()
    wait_for(lambda: files(keeper.folder) == 9, "the limit")
    keeper.wait_for("21 files made room")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_it_ends_when_told_to(start: Callable[..., Running], number: signal.Signals) -> None:
    keeper = start().begin()
    keeper.wait_for("keeps the cache in")
    assert keeper.end(number) == 0
    assert "Traceback" not in keeper.said


def test_it_ends_with_its_master(start: Callable[..., Running]) -> None:
    keeper = start().begin()
    keeper.wait_for("keeps the cache in")
    keeper.say(b"what a master never says\n")
    assert keeper.process.stdin is not None
    keeper.process.stdin.close()
    assert keeper.process.wait(timeout=20) == 0


def test_a_master_that_dies_before_it_spoke_is_no_error(start: Callable[..., Running]) -> None:
    keeper = start()
    keeper.say(b'{"half')
    assert keeper.process.stdin is not None
    keeper.process.stdin.close()
    assert keeper.process.wait(timeout=20) == 1
    assert keeper.said == ""


def test_the_second_on_a_folder_waits_and_takes_over(start: Callable[..., Running]) -> None:
    first = start().begin()
    first.wait_for("keeps the cache in")
    second = start().begin()
    second.wait_for(f"the process {first.process.pid} keeps the cache in")
    first.end(signal.SIGKILL)
    second.wait_for(": keeps the cache in")
    assert second.said.count("this one waits") == 1
    assert second.end() == 0


def test_a_lock_whose_folder_was_removed_counts_no_more(start: Callable[..., Running]) -> None:
    first = start().begin()
    first.wait_for("keeps the cache in")
    first.folder.rename(first.folder.with_name("aside"))
    second = start().begin()
    wait_for(lambda: ": keeps the cache in" in first.said + second.said, "a new start")
    wait_for(lambda: "this one waits" in first.said + second.said, "one that waits")
    assert (first.folder / LOCK_FILE).exists()


def test_a_folder_that_cannot_be_used_is_said_and_does_not_end_it(
    start: Callable[..., Running],
) -> None:
    keeper = start()
    keeper.folder.write_bytes(b"no folder")
    keeper.begin()
    keeper.wait_for("the cache cannot be kept in order: [Errno")
    assert keeper.process.poll() is None
    assert keeper.end() == 0
    assert "Traceback" not in keeper.said


def test_a_log_that_was_renamed_is_opened_again(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    path = tmp_path / "logs" / "error.log"
    path.parent.mkdir()
    keeper = start(log=str(path)).begin()
    wait_for(lambda: path.exists() and "keeps the cache" in path.read_text(), "the log")
    path.rename(tmp_path / "old")
    keeper.process.send_signal(signal.SIGUSR1)
    wait_for(path.exists, "the new log")
    path.parent.rename(tmp_path / "gone")
    keeper.process.send_signal(signal.SIGUSR1)
    again = tmp_path / "gone" / "error.log"
    wait_for(lambda: "cannot be opened again" in again.read_text(), "the warning")
    assert keeper.end() == 0


def test_a_log_that_cannot_be_opened_is_said(start: Callable[..., Running]) -> None:
    keeper = start(log="/no/such/folder/error.log").begin()
    assert keeper.process.wait(timeout=20) == 1
    assert keeper.said.startswith("proxyd: the log cannot be opened")


def test_what_was_not_foreseen_ends_it_with_its_traceback(start: Callable[..., Running]) -> None:
    keeper = start()
    keeper.document["limit_bytes"] = "much"
    keeper.begin()
    keeper.wait_for("keeps the cache in")
    journal = Journal(keeper.folder)
    store(keeper.folder, journal, 1)
    journal.close()
    assert keeper.process.wait(timeout=20) == 1
    assert "the keeper of the cache failed" in keeper.said


def test_kill_9_at_any_moment_leaves_a_catalogue_that_becomes_right(
    start: Callable[..., Running],
) -> None:
    folder = start().folder
    folder.mkdir()
    journal = Journal(folder)
    for round_ in range(8):
        keeper = start().begin()
        for number in range(round_ * 200, round_ * 200 + 200):
            store(folder, journal, number)
            if number % 20 == 0:
                journal.flush()
        if round_ % 3 == 2:
            keeper.wait_for("keeps the cache in")
        keeper.end(signal.SIGKILL)
    journal.close()
    keeper = start().begin()
    wait_for(lambda: described(folder) == 1600, "all entries in the catalogue")
    found = stats(folder)
    assert found is not None
    assert (found.files, found.disk_bytes) == (1600, 1600 * BLOCK_BYTES)
    assert keeper.end() == 0


def test_a_catalogue_that_is_removed_under_it_is_made_again(start: Callable[..., Running]) -> None:
    keeper = start().begin()
    keeper.wait_for("keeps the cache in")
    journal = Journal(keeper.folder)
    for number in range(100):
        store(keeper.folder, journal, number)
    journal.close()
    wait_for(lambda: described(keeper.folder) == 100, "the catalogue")
    for path in keeper.folder.glob(f"{INDEX}*"):
        path.unlink()
    wait_for(lambda: described(keeper.folder) == 100, "the new catalogue")
    assert "was removed: it is made again" in keeper.said
    assert keeper.end() == 0


async def test_the_master_starts_it_and_ends_it(tmp_path: Path) -> None:
    (tmp_path / "proxy.toml").write_text(
        '[log]\nerror = "error.log"\n[[route]]\npath = "/*"\nfiles = "."\n'
    )
    config = load(tmp_path / "proxy.toml")
    folder = tmp_path / "var" / "cache"
    child = Child(KeeperProgram(config, folder, 1 << 20, identity=None))
    await child.start()
    child.watch()
    wait_for((folder / INDEX).exists, "the catalogue")
    await child.stop(signal.SIGTERM, 20)
    assert child.pid is None
    assert f"keeps the cache in {folder} in order" in (tmp_path / "error.log").read_text()


async def test_one_that_cannot_start_does_not_hold_the_master_up(tmp_path: Path) -> None:
    (tmp_path / "proxy.toml").write_text('[[route]]\npath = "/*"\nfiles = "."\n')
    config = load(tmp_path / "proxy.toml")
    command = (sys.executable, "-c", "import sys; sys.stdin.close(); sys.exit(7)")
    program = KeeperProgram(config, tmp_path, 1, identity=None, command=command)
    assert program.advice(7) == "the log says why"
    child = Child(program)
    with suppress(StartError):  # its end may come before it is told what it needs, or behind that
        await child.start()
    await child.stop(signal.SIGTERM, 5)
    assert os.listdir(tmp_path) == ["proxy.toml"]


def test_a_reload_hands_the_folder_over_while_the_old_workers_finish(
    daemon: Callable[..., Daemon],
) -> None:
    running = daemon(SERVED + '[log]\nerror = "error.log"\n')
    log = running.folder / "error.log"
    running.wait_until_ready()
    wait_for(lambda: log.read_text().count(": keeps the cache in") == 1, "the keeper")
    running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: log.read_text().count(": keeps the cache in") == 2, "its successor")
    assert "generation 1 has ended" not in log.read_text()
    (running.folder / "requests-done").touch()
    assert running.end() == 0


def test_a_renamed_log_is_opened_again_by_the_keeper_too(daemon: Callable[..., Daemon]) -> None:
    running = daemon(SERVED + '[log]\nerror = "error.log"\n')
    log = running.folder / "error.log"
    running.wait_until_ready()
    folder = running.folder / "var" / "cache"
    wait_for(lambda: stats(folder) is not None, "the catalogue")
    log.rename(running.folder / "error.log.1")
    running.process.send_signal(signal.SIGUSR1)
    wait_for(log.exists, "the new log")
    (folder / INDEX).unlink()
    wait_for(lambda: "it is made again" in log.read_text(), "the keeper's line in it")
    assert running.end() == 0
