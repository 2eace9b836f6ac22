"""The keeper of the disk cache: a process of its own, so that no request waits for its work.

Gets one line of JSON on standard input (see keepers.py), which then stays open: its end means that
the master is gone. One keeper works on a folder at a time. Another one, of a second daemon on the
same folder or of the generation that a reload starts, waits until the first has ended.

nginx has its cache manager and cache loader for the same end.
"""

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from proxy.cache.boot import boot_name
from proxy.cache.head import Now
from proxy.cache.upkeep import TROUBLED_S, Upkeep
from proxy.observe.logs import ErrorLog, Level, configure

log = logging.getLogger("proxyd.cache")

LOCK_FILE = "keeper.lock"
# How often one that waits looks whether the other has ended.
WAIT_S = 1.0
# Less of a busy machine's CPU than workers get, and enough to make room as fast as they fill it.
_NICENESS = 5


class Document(TypedDict):
    """What the master says to a keeper; keepers.py has the meaning of each."""

    folder: str
    limit_bytes: int
    log: str
    level: Level


class KeeperLock:
    """The right to keep a folder; held until `release`, or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._descriptor = -1

    def take(self) -> str | None:
        """Hold the lock; returns the pid of who else does, None when it is ours. Raises OSError.

        The folder is made when it is missing; a lock in one that was removed counts no more.
        """
        if self._descriptor >= 0 and self._is_current():
            return None
        self.release()
        self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            return pid or "unknown"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        self._descriptor = descriptor
        return None

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let somebody else keep the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Keeper:
    """The running keeper."""

    def __init__(self, document: Document, error_log: ErrorLog) -> None:
        self._folder = Path(document["folder"])
        self._error_log = error_log
        self._lock = KeeperLock(self._folder)
        boot = boot_name()
        self._upkeep = Upkeep(
            self._folder,
            document["limit_bytes"],
            lambda: Now(time.time(), time.monotonic(), boot),
        )
        self._said = ""
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Work until told to stop; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_log)
        loop.add_reader(sys.stdin.fileno(), self._life_line)
        while not self._stopping.is_set():
            rest_s = self._step()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), rest_s)
        self._upkeep.close()
        self._lock.release()
        return 0

    def _step(self) -> float:
        """Do a step if this is the one that keeps the folder; return the seconds until the next."""
        try:
            other = self._lock.take()
        except OSError as error:
            self._say(logging.WARNING, f"the cache cannot be kept in order: {error}")
            return TROUBLED_S
        if other is not None:
            self._upkeep.close()
            self._say(
                logging.INFO,
                f"the process {other} keeps the cache in {self._folder} in order; this one waits",
            )
            return WAIT_S
        self._say(logging.INFO, f"keeps the cache in {self._folder} in order")
        return self._upkeep.step()

    def _say(self, level: int, message: str) -> None:
        """Log what is not as it was."""
        if message != self._said:
            log.log(level, "%s", message)
        self._said = message

    def _life_line(self) -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._stopping.set()

    def _reopen_log(self) -> None:
        try:
            self._error_log.reopen()
        except OSError as error:
            log.warning("the error log cannot be opened again, the old one goes on: %s", error)


def main() -> int:
    """Read the document from standard input and keep the cache in order."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 65536)
        if not piece:
            return 1
        line += piece
    document: Document = json.loads(line)
    with suppress(OSError):
        os.nice(_NICENESS)
    try:
        error_log = configure(document["log"], "cache keeper", document["level"])
    except OSError as error:
        print(f"proxyd: the log cannot be opened: {error}", file=sys.stderr)  # noqa: T201
        return 1
    try:
        return asyncio.run(Keeper(document, error_log).run())
    except Exception:  # the master starts another one
        log.exception("the keeper of the cache failed")
        return 1


if __name__ == "__main__":
    sys.exit(main())
