"""The layout of one entry's file: its head, its content, and a checksum for each block of it.

Pure: bytes in, bytes out. Numbers are little-endian.

     0       4      5       8            16            20      24
     ├───────┼──────┼───────┼────────────┼─────────────┼───────┤
     │ pxc2  │slots │ 0     │ id (8)     │ slot bytes  │ crc32 │                   prologue
     ├───────┴──────┴───┬───┴────┬───────┴─┬───────────┴───────┤
     │ generation (4)   │ length │ crc32   │ head, zeros       │ x slots           see codec.py
     ├──────────────────┴────────┴─────────┴───────────────────┤
     │ content, as it goes to clients: the kernel may send it  │
     ├─────────┬───────────────────────────────────────────────┘
     │ crc32   │ x blocks of 64 KiB; the last block is shorter
     └─────────┘

A file is written aside and renamed, so that what has a name is whole; what is not, after a loss of
power or a fault of the disk, does not match its checksums. Each is begun with the file's random id
and its own number, so that no block passes for another, or for one of another file.

A file with one slot is never changed. Content that is too large to be written again when a 304
refreshes its head has two slots: the older one is overwritten, whoever reads meanwhile takes the
other, and one that is half written does not match (LMDB keeps two meta pages for the same end).

CRC-32 finds every flipped bit and every run of up to 32; zlib-ng's costs 4 µs for a block, zlib's
18, BLAKE2 80.
"""

import struct
from typing import Final

from zlib_ng.zlib_ng import crc32

from proxy.errors import StoredContentError

BLOCK_BYTES: Final = 64 * 1024
CHECK_BYTES: Final = 4
ID_BYTES: Final = 8

_PROLOGUE: Final = struct.Struct("<4sB3s8sI")
_SLOT: Final = struct.Struct("<II")
_CRC: Final = struct.Struct("<I")
_NUMBER: Final = struct.Struct("<q")
_MAGIC: Final = b"pxc2"
_ZEROS: Final = bytes(3)
_CHECKED_PROLOGUE: Final = struct.Struct("<4sB3s8sII")
_CHECKED_SLOT: Final = struct.Struct("<III")
_PROLOGUE_SIZE: Final = 20
PROLOGUE_BYTES: Final = 24
SLOT_HEAD_BYTES: Final = 12

# What a head in a file with two slots may grow by: a 304 seldom adds more than a field.
ROOM_BYTES: Final = 2048


class Layout:
    """Where things are in one file; `content_at` is the offset of the first block."""

    __slots__ = ("content_at", "file_id", "slot_bytes", "slots")

    def __init__(self, file_id: bytes, slots: int, slot_bytes: int) -> None:
        self.file_id = file_id
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.content_at = PROLOGUE_BYTES + slots * slot_bytes


class Slot:
    """The newest head of a file, still encoded, and the slot it is in."""

    __slots__ = ("generation", "head", "number")

    def __init__(self, number: int, generation: int, head: bytes) -> None:
        self.number = number
        self.generation = generation
        self.head = head


def fixed_layout(file_id: bytes, head: bytes) -> Layout:
    """Return the layout of a file that is never changed."""
    return Layout(file_id, 1, SLOT_HEAD_BYTES + len(head))


def roomy_layout(file_id: bytes, head: bytes) -> Layout:
    """Return the layout of a file whose head may be refreshed in place."""
    return Layout(file_id, 2, SLOT_HEAD_BYTES + len(head) + ROOM_BYTES)


def prologue(layout: Layout) -> bytes:
    """Return the first bytes of a file."""
    data = _PROLOGUE.pack(_MAGIC, layout.slots, _ZEROS, layout.file_id, layout.slot_bytes)
    return data + _CRC.pack(crc32(data))


def parse_prologue(data: bytes | memoryview) -> Layout:
    """Undo `prologue`; raises StoredContentError."""
    if len(data) < PROLOGUE_BYTES:
        raise StoredContentError("it is cut short")
    magic, slots, _zeros, file_id, slot_bytes, check = _CHECKED_PROLOGUE.unpack_from(data)
    if magic != _MAGIC:
        raise StoredContentError("it is no file of this cache, or of another version")
    if check != crc32(data[:_PROLOGUE_SIZE]):
        raise StoredContentError("its first bytes do not match their checksum")
    return Layout(file_id, slots, slot_bytes)


def slot(layout: Layout, number: int, generation: int, head: bytes) -> bytes:
    """Return the bytes of slot `number`, without zeros; the head must fit."""
    start = _SLOT.pack(generation, len(head))
    return start + _CRC.pack(crc32(head, crc32(start, _seed(layout, -1 - number)))) + head


def slot_offset(layout: Layout, number: int) -> int:
    """Return where slot `number` begins."""
    return PROLOGUE_BYTES + number * layout.slot_bytes


def fits(layout: Layout, head: bytes) -> bool:
    """Say whether `head` has room in a slot."""
    return SLOT_HEAD_BYTES + len(head) <= layout.slot_bytes


def newest_slot(data: bytes | memoryview, layout: Layout) -> Slot:
    """Find the newest whole head; `data` is the file up to its content.

    Raises StoredContentError when there is none.
    """
    found: Slot | None = None
    for number in range(layout.slots):
        one = _parse_slot(data, layout, number)
        if one is not None and (found is None or one.generation > found.generation):
            found = one
    if found is None:
        raise StoredContentError("its head does not match its checksum")
    return found


def _parse_slot(data: bytes | memoryview, layout: Layout, number: int) -> Slot | None:
    at = slot_offset(layout, number)
    head_at = at + SLOT_HEAD_BYTES
    if len(data) < head_at:
        return None
    generation, length, check = _CHECKED_SLOT.unpack_from(data, at)
    head = bytes(data[head_at : head_at + length])
    if SLOT_HEAD_BYTES + length > layout.slot_bytes or len(head) < length:
        return None
    start = data[at : head_at - CHECK_BYTES]
    if check != crc32(head, crc32(start, _seed(layout, -1 - number))):
        return None
    return Slot(number, generation, head)


def _seed(layout: Layout, number: int) -> int:
    """Return what the checksum of block `number` begins with; slots have negative numbers."""
    return crc32(layout.file_id + _NUMBER.pack(number))


def checks(layout: Layout, first: int, content: bytes | memoryview) -> bytes:
    """Return the checksums of consecutive blocks, of which `content` begins with block `first`."""
    if 0 < len(content) <= BLOCK_BYTES:
        return _CRC.pack(crc32(content, _seed(layout, first)))
    parts = []
    view = memoryview(content)
    for at in range(0, len(view), BLOCK_BYTES):
        number = first + at // BLOCK_BYTES
        parts.append(_CRC.pack(crc32(view[at : at + BLOCK_BYTES], _seed(layout, number))))
    return b"".join(parts)


def block_count(size_bytes: int) -> int:
    """Return how many blocks content of `size_bytes` has."""
    return -(-size_bytes // BLOCK_BYTES)


def stored_bytes(size_bytes: int) -> int:
    """Return what content of `size_bytes` takes, with its checksums."""
    return size_bytes + block_count(size_bytes) * CHECK_BYTES


def whole_file(layout: Layout, head: bytes, content: bytes) -> list[bytes | memoryview]:
    """Return the parts of a file with all of its content."""
    return [prologue(layout), slot(layout, 0, 1, head), content, checks(layout, 0, content)]


def check(
    layout: Layout,
    first: int,
    content: bytes | memoryview,
    expected: bytes | bytearray | memoryview,
) -> None:
    """Compare consecutive blocks, from block `first` on, with their checksums in the file.

    Raises StoredContentError.
    """
    if checks(layout, first, content) == expected:
        return
    if len(expected) < block_count(len(content)) * CHECK_BYTES:
        raise StoredContentError("it is cut short")
    for number, at in enumerate(range(0, len(content), BLOCK_BYTES)):
        found = checks(layout, first + number, content[at : at + BLOCK_BYTES])
        if found != expected[number * CHECK_BYTES : (number + 1) * CHECK_BYTES]:
            raise StoredContentError(f"its block {first + number} does not match its checksum")


def whole_content(layout: Layout, data: bytes | memoryview, size_bytes: int) -> bytes | memoryview:
    """Return all of the content, of which `data` is the file from there on, once it is checked.

    Raises StoredContentError.
    """
    stop = stored_bytes(size_bytes)
    if len(data) < stop:
        raise StoredContentError("it is cut short")
    content = data[:size_bytes]
    check(layout, 0, content, data[size_bytes:stop])
    return content
