"""What the disk holds under a path: a file with its compressed siblings, or a folder.

Blocking: called in threads only.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proxy.errors import FileChangedError, ForbiddenError, NotFoundError
from proxy.files.options import CatalogOptions
from proxy.files.safe_open import OpenFile, open_below
from proxy.rules.negotiation import CODINGS, IDENTITY
from proxy.rules.target import decode_path

SUFFIXES = {b"br": b".br", b"zstd": b".zst", b"gzip": b".gz"}

# RFC 8615: the one folder whose name begins with a dot and that is meant to be seen.
WELL_KNOWN = b".well-known"

# A page of more is of no use to a person; nginx and Apache have no limit.
MAX_ENTRIES = 2000


class Version(NamedTuple):
    """What changes when a file is replaced or written to."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class LocatedFile:
    """An open file and its open compressed siblings, by coding."""

    __slots__ = ("files", "segments")

    def __init__(self, segments: tuple[bytes, ...], files: dict[bytes, OpenFile]) -> None:
        self.segments = segments
        self.files = files

    def versions(self) -> dict[bytes, Version]:
        """Return the version of each file."""
        return {coding: version(file) for coding, file in self.files.items()}

    def path_of(self, coding: bytes) -> tuple[bytes, ...]:
        """Return the names on the way to the file with this coding."""
        suffix = SUFFIXES.get(coding, b"")
        return (*self.segments[:-1], self.segments[-1] + suffix)

    def close(self) -> None:
        """Close them all."""
        for file in self.files.values():
            file.close()


@dataclass(frozen=True, slots=True)
class NeedsSlash:
    """A folder that has an index or a listing, asked for without its slash."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing; a link has no size and no time, since its target is not looked at."""

    name: bytes
    is_folder: bool
    size_bytes: int | None
    modified_at: float | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of a folder, folders first; `is_complete` is False past `MAX_ENTRIES`."""

    entries: tuple[Entry, ...]
    is_complete: bool


def version(file: OpenFile) -> Version:
    """Return the version of an open file."""
    status = file.status
    return Version(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def segments_of(path: bytes, *, dotfiles: bool) -> tuple[bytes, ...]:
    """Decode `path` (relative, normalised, percent-encoded) into the names on the way down.

    Raises NotFoundError for what can be no name, and for hidden ones.
    """
    decoded = decode_path(b"/" + path)
    if decoded is None:
        raise NotFoundError("the path decodes to something that is no file name")
    segments = os.fsencode(decoded[1:].removesuffix("/")).split(b"/")
    if segments == [b""]:
        return ()
    for segment in segments:
        if segment in {b"", b".", b".."}:
            raise NotFoundError("an empty or a dot segment in the path")
        if segment.startswith(b".") and segment != WELL_KNOWN and not dotfiles:
            raise NotFoundError("names that begin with a dot are hidden (dotfiles = true)")
    return tuple(segments)


def locate(root: str, path: bytes, options: CatalogOptions) -> LocatedFile | NeedsSlash | Listing:
    """Find what `path` (relative to the root, percent-encoded) names.

    Raises NotFoundError, ForbiddenError, OverloadedError.
    """
    segments = segments_of(path, dotfiles=options.dotfiles)
    if not path or path.endswith(b"/"):
        return _index_of(root, segments, options) or _listing_of(root, segments, options)
    file = open_below(root, segments)
    if not file.is_folder:
        return _with_siblings(root, segments, file, options)
    file.close()
    index = _index_of(root, segments, options)
    if index is not None:
        index.close()
    elif not options.listing:
        raise _no_index(options)
    return NeedsSlash()


def _index_of(
    root: str, segments: tuple[bytes, ...], options: CatalogOptions
) -> LocatedFile | None:
    for name in options.index:
        below = (*segments, os.fsencode(name))
        try:
            file = open_below(root, below)
        except NotFoundError:
            continue
        if not file.is_folder:
            return _with_siblings(root, below, file, options)
        file.close()
    return None


def _no_index(options: CatalogOptions) -> NotFoundError:
    names = ", ".join(options.index) or "index"
    return NotFoundError(f"a folder without {names}, and listing is off (listing = true)")


def _with_siblings(
    root: str, segments: tuple[bytes, ...], file: OpenFile, options: CatalogOptions
) -> LocatedFile:
    """Add `.br`, `.zst` and `.gz` from beside the file.

    nginx's gzip_static takes them unseen and recommends equal times; here one that is older than
    its original is left out. Whole seconds are compared: archives and `cp -p` may keep no more.
    """
    located = LocatedFile(segments, {IDENTITY: file})
    for coding in CODINGS if options.precompressed else ():
        try:
            sibling = open_below(root, located.path_of(coding))
        except (NotFoundError, ForbiddenError):
            continue
        if sibling.is_folder or _second(sibling) < _second(file):
            sibling.close()
            continue
        located.files[coding] = sibling
    return located


def _second(file: OpenFile) -> int:
    return file.status.st_mtime_ns // 10**9


def _listing_of(root: str, segments: Sequence[bytes], options: CatalogOptions) -> Listing:
    if not options.listing:
        raise _no_index(options)
    folder = open_below(root, segments)
    try:
        if not folder.is_folder:
            raise NotFoundError("a file, asked for as a folder")
        return _scan(folder, dotfiles=options.dotfiles)
    finally:
        folder.close()


def _scan(folder: OpenFile, *, dotfiles: bool) -> Listing:
    entries: list[Entry] = []
    with os.scandir(folder.descriptor) as found:
        for item in found:
            name = os.fsencode(item.name)
            if name.startswith(b".") and name != WELL_KNOWN and not dotfiles:
                continue
            if len(entries) == MAX_ENTRIES:
                return Listing(_sorted(entries), is_complete=False)
            entry = _entry(name, folder.descriptor)
            if entry is not None:
                entries.append(entry)
    return Listing(_sorted(entries), is_complete=True)


def _entry(name: bytes, folder: int) -> Entry | None:
    """Describe one entry; None for what would not be served, or has gone meanwhile."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, True, None, status.st_mtime)
    if stat.S_ISREG(status.st_mode):
        return Entry(name, False, status.st_size, status.st_mtime)
    return Entry(name, False, None, None) if stat.S_ISLNK(status.st_mode) else None


def _sorted(entries: list[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: (not entry.is_folder, entry.name.lower())))


def read_whole(file: OpenFile) -> bytes:
    """Read a file of one version; raises FileChangedError when it changes meanwhile."""
    size = file.status.st_size
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(file.descriptor, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    if offset != size or not file.unchanged():
        raise FileChangedError("a file changed while it was read")
    return b"".join(parts)
