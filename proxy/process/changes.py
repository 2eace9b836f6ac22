"""Whether somebody has changed a file that the applications are made of; for development."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

# What Python and its template engines read at the start, and proxy.toml. Databases and uploads
# change all the time.
_SUFFIXES = (".py", ".toml", ".html", ".jinja", ".jinja2", ".j2", ".cfg", ".ini", ".env")
_SKIPPED = frozenset(("__pycache__", "node_modules", "site-packages"))
# A folder this large is no application's; Watchman and inotify have limits of that order, too.
_MOST_FILES = 20_000
_CHECK_S = 1.0

Snapshot = dict[str, tuple[int, int]]


class Changes:
    """The source files below a folder; looked at once a second, in a thread.

    What has changed since `began_ns` (since the epoch, as files have it) counts as changed: the
    applications may have read it before.
    """

    def __init__(self, folder: Path, state_dir: Path, began_ns: int) -> None:
        self._folder = folder
        self._state_dir = state_dir
        self._began_ns = began_ns
        self._known: Snapshot | None = None

    async def wait(self) -> list[str]:
        """Return what has changed since the last call, once it has been the same for a second."""
        if self._known is None:
            found = await self._look()
            began_ns = self._began_ns
            self._known = {path: seen for path, seen in found.items() if seen[0] <= began_ns}
        last = self._known
        while True:
            await asyncio.sleep(_CHECK_S)
            now = await self._look()
            paths = changed(self._known, now)
            if paths and now == last:
                self._known = now
                return paths
            last = now

    async def _look(self) -> Snapshot:
        return await asyncio.to_thread(snapshot, self._folder, self._state_dir)


def snapshot(folder: Path, state_dir: Path) -> Snapshot:
    """Return the time and size of every source file below `folder`, up to a bound."""
    found: Snapshot = {}
    for entry in _walk(str(folder), str(state_dir)):
        try:
            status = entry.stat()
        except OSError:
            continue  # it went while we looked
        found[entry.path] = (status.st_mtime_ns, status.st_size)
        if len(found) >= _MOST_FILES:
            break
    return found


def _walk(folder: str, skipped: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return  # a virtual environment
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            hidden = entry.name.startswith(".")
            if not hidden and entry.name not in _SKIPPED and entry.path != skipped:
                yield from _walk(entry.path, skipped)
        elif entry.name.endswith(_SUFFIXES):
            yield entry


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """Return the paths that are new, different or gone."""
    paths = before.keys() | after.keys()
    return sorted(path for path in paths if before.get(path) != after.get(path))
