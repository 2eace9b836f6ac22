"""A disk store in a folder of its own, with clocks that tests set."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache.disk import DiskStore
from tests.cache.taking import Notes


class Clocks:
    """Wall and monotonic time."""

    def __init__(self) -> None:
        self.wall = 1_700_000_010.0
        self.monotonic = 110.0


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
async def store(tmp_path: Path, clocks: Clocks, notes: Notes) -> AsyncIterator[DiskStore]:
    made = DiskStore(
        tmp_path / "cache",
        notes,
        writers=4,
        wall=lambda: clocks.wall,
        monotonic=lambda: clocks.monotonic,
        boot=bytes(16),
    )
    yield made
    await made.close()
