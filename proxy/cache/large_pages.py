"""Large pages for memory that has been filled, so that the kernel finds 2 MiB in one look-up.

Memory of memfd_create comes in pages of 4 KiB unless an administrator sets `shmem_enabled`. Since
Linux 6.1 a process may ask for what it has mapped to be moved into large ones (madvise(2),
MADV_COLLAPSE), whatever is set. The mapping has to begin where a large page could, which the mmap
module cannot say, so libc is asked.
"""

import ctypes
import mmap
from functools import cache
from pathlib import Path
from typing import Final

# Of the kernel's headers; the mmap module does not have them in Python 3.11.
MAP_FIXED: Final = 0x10
MADV_COLLAPSE: Final = 25
_FAILED: Final = ctypes.c_void_p(-1).value

PAGE_SIZE_FILE: Final = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")


@cache
def large_page_bytes() -> int:
    """Return the size of a large page; 0 where the kernel has none."""
    try:
        return int(PAGE_SIZE_FILE.read_text())
    except (OSError, ValueError):
        return 0


def collapse(descriptor: int, size_bytes: int) -> bool:
    """Move the first `size_bytes` of a memfd into large pages, as far as they fill whole ones.

    Says whether that was done: it is not where the kernel is older, or has no such pages left. The
    content stays what it is. Blocking: about 1 ms for each MB.
    """
    page = large_page_bytes()
    if not page or size_bytes < page:
        return False
    length = size_bytes // page * page
    libc = _libc()
    # Enough address space to have the mapping begin at a multiple of a page within it.
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    room = libc.mmap(None, length + page, 0, private, -1, 0)
    if room == _FAILED:
        return False
    try:
        start = -(-room // page) * page
        shared = mmap.MAP_SHARED | MAP_FIXED
        if libc.mmap(start, length, mmap.PROT_READ, shared, descriptor, 0) != start:
            return False
        return bool(libc.madvise(start, length, MADV_COLLAPSE) == 0)
    finally:
        libc.munmap(room, length + page)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    numbers = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *numbers]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc
