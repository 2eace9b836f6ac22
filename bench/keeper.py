"""What the keeper of the disk cache costs: time to start, memory, files per second.

    python -m bench.keeper [ENTRIES] [FOLDER]

Makes that many small files (a million takes minutes, 4 KiB of disk and one inode each) in a folder
below FOLDER that it removes at the end, and has a real keeper work on them. Rates are of CPU time:
the keeper rests twice as long as it works. Linux only.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.cpu import cpu_s
from bench.errors import BenchError
from bench.stores import made
from proxy.cache.boot import boot_name
from proxy.cache.codec import encode
from proxy.cache.disk_file import ID_BYTES, fixed_layout, whole_file
from proxy.cache.disk_folder import name_of, store_whole
from proxy.cache.head import Now
from proxy.cache.index import BLOCK_BYTES, INDEX
from proxy.cache.inventory import Inventory
from proxy.cache.journal import Journal
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.process.keepers import KEEPER_COMMAND

ENTRIES = 1_000_000
CONTENT = bytes(500)
KEEP_S = 86_400.0
NO_LIMIT = 1 << 50
# It is idle when it has used next to no CPU for three seconds.
LOOK_S = 0.25
QUIET_LOOKS = 12
QUIET_CPU_S = 0.015
PATIENCE_S = 1800.0
# What the journal takes in one flush.
BATCH = 20_000


class Keeper:
    """A running keeper."""

    def __init__(self, folder: Path, limit_bytes: int = NO_LIMIT) -> None:
        self._log = folder.parent / "keeper.log"
        self._log.write_bytes(b"")
        self._process = subprocess.Popen(KEEPER_COMMAND, stdin=subprocess.PIPE)
        self._began_at = time.monotonic()
        document = {
            "folder": str(folder),
            "limit_bytes": limit_bytes,
            "log": str(self._log),
            "level": "info",
        }
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()

    def wait_for(self, text: str) -> float:
        """Wait for a line of its log; return the seconds since its start. Raises BenchError."""
        while text not in self._log.read_text():
            self._be_patient()
            time.sleep(0.01)
        return time.monotonic() - self._began_at

    def until_idle(self, what: str, count: int) -> None:
        """Wait until it has no more to do, and print what that cost. Raises BenchError."""
        began_at, pid = time.monotonic(), self._process.pid
        used = [cpu_s(pid)]
        while len(used) <= QUIET_LOOKS or used[-1] - used[-1 - QUIET_LOOKS] > QUIET_CPU_S:
            self._be_patient()
            time.sleep(LOOK_S)
            used.append(cpu_s(pid))
        took_s = time.monotonic() - began_at - QUIET_LOOKS * LOOK_S
        cpu = used[-1] - used[0]
        print(
            f"{count:>9,} {what:32} {took_s:6.1f} s, {cpu:6.1f} s of CPU,"
            f" {cpu / count * 1e6:5.0f} µs each; memory {self._memory_mib():.0f} MiB"
        )

    def _be_patient(self) -> None:
        if time.monotonic() - self._began_at > PATIENCE_S:
            raise BenchError(f"the keeper is not done: {self._log.read_text()}")

    def _memory_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def end(self) -> None:
        """End it and wait until it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


def fill(folder: Path, entries: int) -> None:
    """Store files as workers do, without telling anybody."""
    now = Now(time.time(), time.monotonic(), boot_name())
    began_at = time.monotonic()
    for number in range(entries):
        entry = made(number, CONTENT)
        head = encode(entry, now)
        layout = fixed_layout(number.to_bytes(ID_BYTES, "big"), head)
        store_whole(str(folder), name_of(entry.key, b""), whole_file(layout, head, CONTENT))
    print(f"{entries:,} files made in {time.monotonic() - began_at:.0f} s")


def report(journal: Journal, names: list[bytes]) -> None:
    """Have all these files used, and stored again, as far as the journal says."""
    for start in range(0, len(names), BATCH):
        for name in names[start : start + BATCH]:
            journal.touch(name)
        journal.flush()
        for name in names[start : start + BATCH]:
            journal.put(name, 900, time.time() + KEEP_S)
        journal.flush()
    journal.close()


def ask(folder: Path) -> None:
    """Print what the tools' questions take."""
    inventory = Inventory(folder)
    questions: dict[str, Callable[[], object]] = {
        "stats": inventory.stats,
        "ls by size": lambda: inventory.ls(sort="size"),
        "ls of a pattern by hits": lambda: inventory.ls("*/articles/*77", sort="hits"),
        "entries under a prefix": lambda: inventory.under("https://example.com/articles/77"),
        "entries of a key": lambda: inventory.of_key("https://example.com/articles/77"),
    }
    for what, question in questions.items():
        began_at = time.monotonic()
        question()
        print(f"{what}: {(time.monotonic() - began_at) * 1e3:.1f} ms")
    inventory.close()


def measure(folder: Path, entries: int) -> None:
    """Print the costs with so many entries in `folder`."""
    keeper = Keeper(folder)
    print(f"it works {keeper.wait_for('keeps the cache'):.2f} s after its start")
    keeper.until_idle("found and read", entries)
    ask(folder)
    keeper.end()
    print(f"the catalogue has {(folder / INDEX).stat().st_size / entries:.0f} bytes an entry")

    keeper = Keeper(folder)
    print(f"it works {keeper.wait_for('keeps the cache'):.2f} s after its start")
    keeper.until_idle("compared with the catalogue", entries)
    reported = min(entries, BATCH * 5)
    names = [
        name_of(b"https://example.com/articles/%d" % number, b"") for number in range(reported)
    ]
    report(Journal(folder), names)
    keeper.until_idle("used, put and read again", reported)
    keeper.end()

    keeper = Keeper(folder, limit_bytes=entries * BLOCK_BYTES // 2)
    keeper.until_idle("compared, half of them evicted", entries)
    purges = Purges(folder)
    purges.add(Kind.ALL, Verdict.HARD)
    purges.close()
    keeper.until_idle("purged", entries // 2)
    keeper.end()
    left = sum(1 for _ in folder.glob("??/*"))
    print(f"{left} files are left")


def main() -> int:
    """Make the files, measure, remove the files."""
    arguments = sys.argv[1:]
    entries = int(arguments[0]) if arguments else ENTRIES
    parent = arguments[1] if len(arguments) > 1 else None
    with tempfile.TemporaryDirectory(prefix="proxyd-keeper-", dir=parent) as temporary:
        folder = Path(temporary) / "cache"
        folder.mkdir()
        try:
            fill(folder, entries)
            measure(folder, entries)
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
