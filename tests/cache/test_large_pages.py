"""Memory is moved into large pages where the kernel can, and says the same before and after."""

import os
import platform
import re
import sys
from collections.abc import Iterator

import pytest

from proxy.cache import large_pages
from proxy.cache.large_pages import collapse, large_page_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd_create is Linux's")

PAGE = large_page_bytes() or 2 * 1024 * 1024
CONTENT = os.urandom(4096) * (2 * PAGE // 4096) + b"what does not fill a page"


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = os.memfd_create("test")
    with open(made, "r+b", closefd=False) as file:
        file.write(CONTENT)
    yield made
    os.close(made)


def content_of(descriptor: int) -> bytes:
    return os.pread(descriptor, len(CONTENT) + 1, 0)


def huge_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if "ShmemHugePages" in line)


def is_possible() -> bool:
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    version = (0, 0) if release is None else (int(release[1]), int(release[2]))
    return version >= (6, 1) and large_page_bytes() > 0


def test_content_stays_what_it_was_and_so_does_its_size(descriptor: int) -> None:
    collapse(descriptor, len(CONTENT))
    assert content_of(descriptor) == CONTENT


@pytest.mark.skipif(not is_possible(), reason="the kernel cannot")
def test_it_is_in_large_pages_afterwards(descriptor: int) -> None:
    assert collapse(descriptor, len(CONTENT))
    # Of the whole machine, on which others come and go; ours are there.
    assert huge_bytes() >= 2 * PAGE


def test_the_mapping_is_gone_afterwards(descriptor: int) -> None:
    with open("/proc/self/maps", encoding="ascii") as file:
        before = len(file.readlines())
    for _ in range(50):
        collapse(descriptor, len(CONTENT))
    with open("/proc/self/maps", encoding="ascii") as file:
        assert len(file.readlines()) < before + 50


def test_what_fills_no_large_page_is_left_alone(descriptor: int) -> None:
    assert not collapse(descriptor, PAGE - 1)


def test_a_kernel_without_large_pages_is_not_asked(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_pages, "large_page_bytes", lambda: 0)
    assert not collapse(descriptor, len(CONTENT))


def test_a_file_that_cannot_be_mapped_is_left_alone() -> None:
    readable, writable = os.pipe()
    assert not collapse(readable, len(CONTENT))
    os.close(readable)
    os.close(writable)
