"""The layout of a file: parse undoes encode, and whatever is flipped or cut off is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import disk_file
from proxy.cache.disk_file import BLOCK_BYTES, Layout
from proxy.errors import StoredContentError

ID = b"12345678"
HEAD = b"the head"


def newest(data: bytes | memoryview, layout: Layout) -> tuple[int, int, bytes]:
    slot = disk_file.newest_slot(data, layout)
    return slot.number, slot.generation, slot.head


def parsed(data: bytes) -> tuple[bytes, bytes]:
    """Return head and content of a file whose content's length is known."""
    layout = disk_file.parse_prologue(data)
    head = disk_file.newest_slot(data, layout).head
    rest = memoryview(data)[layout.content_at :]
    blocks = -(-len(rest) // (BLOCK_BYTES + disk_file.CHECK_BYTES))
    size = len(rest) - blocks * disk_file.CHECK_BYTES
    return head, bytes(disk_file.whole_content(layout, rest, size))


def made(content: bytes, head: bytes = HEAD, file_id: bytes = ID) -> bytes:
    layout = disk_file.fixed_layout(file_id, head)
    return b"".join(disk_file.whole_file(layout, head, content))


@given(
    st.binary(max_size=300),
    st.sampled_from([0, 1, 10, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES]),
)
def test_parsing_undoes_making(head: bytes, size: int) -> None:
    content = bytes(size)
    data = made(content, head)
    assert parsed(data) == (head, content)
    layout = disk_file.parse_prologue(data)
    assert len(data) == layout.content_at + disk_file.stored_bytes(size)


def test_every_flipped_bit_is_noticed() -> None:
    whole = made(b"content")
    for at in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[at] ^= 1 << bit
            with pytest.raises(StoredContentError):
                parsed(bytes(data))


def test_every_truncation_is_noticed() -> None:
    whole = made(b"content")

    def parse_cut(data: bytes) -> None:
        layout = disk_file.parse_prologue(data)
        disk_file.newest_slot(data, layout)
        rest = memoryview(data)[layout.content_at :]
        disk_file.whole_content(layout, rest, len(b"content"))

    for length in range(len(whole)):
        with pytest.raises(StoredContentError):
            parse_cut(whole[:length])


def test_a_block_of_another_file_or_place_does_not_match() -> None:
    layout = Layout(ID, 1, 100)
    content = memoryview(b"x" * BLOCK_BYTES)
    checks = disk_file.checks(layout, 3, content)
    disk_file.check(layout, 3, content, checks)
    for other, number in ((layout, 2), (Layout(b"87654321", 1, 100), 3)):
        with pytest.raises(StoredContentError, match=f"block {number}"):
            disk_file.check(other, number, content, checks)


def test_the_newest_whole_head_counts() -> None:
    layout = disk_file.roomy_layout(ID, HEAD)
    data = memoryview(bytearray(layout.content_at))

    def write(number: int, generation: int, head: bytes) -> None:
        at = disk_file.slot_offset(layout, number)
        one = disk_file.slot(layout, number, generation, head)
        data[at : at + len(one)] = one

    write(0, 1, b"first")
    assert newest(data, layout) == (0, 1, b"first")
    write(1, 2, b"second")
    assert newest(data, layout) == (1, 2, b"second")
    write(0, 3, b"third")
    assert disk_file.newest_slot(data, layout).head == b"third"
    data[disk_file.slot_offset(layout, 0) + 12] ^= 1
    assert disk_file.newest_slot(data, layout).head == b"second"
    data[disk_file.slot_offset(layout, 1) + 12] ^= 1
    with pytest.raises(StoredContentError):
        disk_file.newest_slot(data, layout)


def test_a_slot_copied_to_the_place_of_the_other_does_not_match() -> None:
    layout = disk_file.roomy_layout(ID, HEAD)
    one = disk_file.slot(layout, 0, 1, HEAD)
    data = bytes(disk_file.slot_offset(layout, 1)) + one
    with pytest.raises(StoredContentError):
        disk_file.newest_slot(data, layout)


def test_a_head_fits_while_there_is_room_for_it() -> None:
    layout = disk_file.roomy_layout(ID, HEAD)
    assert disk_file.fits(layout, HEAD + bytes(disk_file.ROOM_BYTES))
    assert not disk_file.fits(layout, HEAD + bytes(disk_file.ROOM_BYTES + 1))


def test_a_length_that_points_out_of_its_slot_is_refused() -> None:
    layout = Layout(ID, 2, disk_file.SLOT_HEAD_BYTES + 4)
    data = bytes(disk_file.PROLOGUE_BYTES) + disk_file.slot(layout, 0, 1, b"12345678") + bytes(99)
    with pytest.raises(StoredContentError):
        disk_file.newest_slot(data, layout)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StoredContentError):
        disk_file.parse_prologue(bytes(data))


def test_the_block_that_is_damaged_is_named() -> None:
    layout = disk_file.fixed_layout(ID, HEAD)
    content = bytearray(3 * BLOCK_BYTES)
    checks = disk_file.checks(layout, 0, bytes(content))
    content[BLOCK_BYTES] ^= 1
    with pytest.raises(StoredContentError, match="block 1 "):
        disk_file.check(layout, 0, memoryview(content), checks)
    with pytest.raises(StoredContentError, match="cut short"):
        disk_file.check(layout, 0, memoryview(content), checks[:8])


def test_blocks_do_not_change_places() -> None:
    layout = disk_file.fixed_layout(ID, HEAD)
    one, other = b"1" * BLOCK_BYTES, b"2" * BLOCK_BYTES
    checks = disk_file.checks(layout, 0, one + other)
    with pytest.raises(StoredContentError, match="block 0 "):
        disk_file.check(layout, 0, memoryview(other + one), checks[4:] + checks[:4])


def test_a_file_of_the_version_before_is_none_of_ours() -> None:
    data = bytearray(made(b"content"))
    data[:4] = b"pxc1"
    with pytest.raises(StoredContentError, match="another version"):
        disk_file.parse_prologue(bytes(data))
