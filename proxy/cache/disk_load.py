"""Reads the file of an entry or of a marker: its head, and its content unless that is large.

Blocking, so called in threads; `load_now` is for the event loop.
"""

import os
from typing import Final, cast

import msgspec

from proxy.cache import codec, disk_file, disk_folder
from proxy.cache.disk_file import Layout
from proxy.cache.disk_open import READ_FLAGS, open_to_read
from proxy.cache.disk_reader import NOT_NOW, landing, read_into
from proxy.cache.head import Head, MarkerHead
from proxy.cache.store import LATER, Later
from proxy.errors import StoredContentError
from proxy.page_cache import NOWAIT

# The first read of a file: a head of common size with one block behind it.
FIRST_BYTES: Final = 80 * 1024
# The first read of a file whose content nobody wants: a page, which holds most heads.
HEAD_BYTES: Final = 4096
# What the event loop reads and checks in one go, 100 µs; more is read in a thread.
AT_ONCE_BYTES: Final = 256 * 1024
# Upstream heads are limited to 64 KiB by default; a file that claims more is none of ours.
MOST_HEAD_BYTES: Final = 4 * 1024 * 1024
SMALL_BYTES: Final = 16 * 1024

# Where the first reads of the event loop land, before they are checked and become bytes.
_at_once: Final = memoryview(bytearray(FIRST_BYTES))
_AT_ONCE: Final = [_at_once]


class Loaded:
    """A file's head, where its content is, and the content itself unless it is large."""

    __slots__ = ("body", "head", "layout")

    def __init__(self, head: Head, layout: Layout, body: bytes | None) -> None:
        self.head = head
        self.layout = layout
        self.body = body


def load(descriptor: int, most_bytes: int) -> Loaded | MarkerHead:
    """Read an open file, with its content if that is no more than `most_bytes`.

    Raises StoredContentError, OSError.
    """
    view = landing.view[:FIRST_BYTES]
    count = read_into(descriptor, view, 0, 0)
    return cast("Loaded | MarkerHead", _load(descriptor, view[:count], most_bytes, 0))


def load_now(descriptor: int, most_bytes: int) -> Loaded | MarkerHead | Later:
    """As `load`, and LATER instead of waiting for the disk; only where there is NOWAIT."""
    try:
        count = os.preadv(descriptor, _AT_ONCE, 0, NOWAIT)
    except OSError as error:
        if error.errno in NOT_NOW:
            return LATER
        raise
    if count < disk_file.PROLOGUE_BYTES:
        return LATER
    start = _at_once[:count]
    # Of a small file, slices of bytes are cheaper than views.
    return _load(descriptor, bytes(start) if count < SMALL_BYTES else start, most_bytes, NOWAIT)


def _load(
    descriptor: int, view: bytes | memoryview, most_bytes: int, flags: int
) -> Loaded | MarkerHead | Later:
    """Make of a file, of which `view` is the start, what `load` and `load_now` return."""
    layout = disk_file.parse_prologue(view)
    content_at = layout.content_at
    if content_at > MOST_HEAD_BYTES:
        raise StoredContentError("its head is too large")
    if content_at > len(view):
        if flags:
            return LATER
        view = _more(descriptor, view, content_at, 0)
    head = _decode(disk_file.newest_slot(view, layout).head)
    if isinstance(head, MarkerHead):
        return head
    if head.size_bytes > most_bytes:
        expected = layout.content_at + disk_file.stored_bytes(head.size_bytes)
        if os.fstat(descriptor).st_size < expected:
            raise StoredContentError("it is cut short")
        return Loaded(head, layout, None)
    body = _content(descriptor, view, layout, head.size_bytes, flags)
    return LATER if body is None else Loaded(head, layout, body)


def _decode(data: bytes) -> Head | MarkerHead:
    try:
        return codec.decode(data)
    except msgspec.DecodeError:
        raise StoredContentError("its head is of another make") from None


def _content(
    descriptor: int, view: bytes | memoryview, layout: Layout, size_bytes: int, flags: int
) -> bytes | None:
    """Return all of the content, None when `flags` forbid to wait for it."""
    content_at = layout.content_at
    stop = content_at + disk_file.stored_bytes(size_bytes)
    if len(view) < stop:
        if flags and stop > AT_ONCE_BYTES:
            return None
        view = _more(descriptor, view, stop, flags)
        if flags and len(view) < stop:
            return None
    return bytes(disk_file.whole_content(layout, view[content_at:stop], size_bytes))


def _more(descriptor: int, view: bytes | memoryview, wanted: int, flags: int) -> memoryview:
    """Return the file up to `wanted`, of which `view` is the start; less where it ends."""
    whole = memoryview(bytearray(wanted))
    whole[: len(view)] = view
    count = read_into(descriptor, whole[len(view) :], len(view), flags)
    return whole[: len(view) + count]


def load_named(root: str, name: bytes, most_bytes: int) -> Loaded | MarkerHead | None:
    """Open the file of that name and `load` it; None when there is none.

    Raises StoredContentError, OSError.
    """
    descriptor = open_to_read(disk_folder.path_of(root, name))
    if descriptor < 0:
        return None
    try:
        return load(descriptor, most_bytes)
    finally:
        os.close(descriptor)


def read_head(path: str) -> Head | MarkerHead:
    """Return the head of a file, and none of its content.

    Raises StoredContentError, OSError.
    """
    return read_head_and_size(path)[0]


def read_head_and_size(path: str) -> tuple[Head | MarkerHead, int]:
    """Return the head of a file, and the file's size in bytes.

    Raises StoredContentError, OSError.
    """
    descriptor = os.open(path, READ_FLAGS)
    try:
        size_bytes = os.fstat(descriptor).st_size
        start = os.pread(descriptor, HEAD_BYTES, 0)
        layout = disk_file.parse_prologue(start)
        if layout.content_at > MOST_HEAD_BYTES:
            raise StoredContentError("its head is too large")
        if layout.content_at > len(start):
            start = os.pread(descriptor, layout.content_at, 0)
    finally:
        os.close(descriptor)
    head = _decode(disk_file.newest_slot(start, layout).head)
    if isinstance(head, Head):
        expected = layout.content_at + disk_file.stored_bytes(head.size_bytes)
        if size_bytes < expected:
            raise StoredContentError("it is cut short")
    return head, size_bytes
