"""The memory that catalogs share."""

from proxy.files.asset import OVERHEAD_BYTES, Asset
from proxy.files.memory import FileMemory


class Keeper:
    def __init__(self) -> None:
        self.lost: list[bytes] = []

    def evicted(self, asset: Asset) -> None:
        self.lost.append(asset.key)


def asset(key: bytes, size_bytes: int = OVERHEAD_BYTES) -> Asset:
    made = Asset(key, {}, {}, settled=True, checked_at=0.0)
    made.size_bytes = size_bytes
    return made


def test_the_asset_used_least_recently_goes_first() -> None:
    memory, keeper = FileMemory(3 * OVERHEAD_BYTES), Keeper()
    first, second, third = asset(b"1"), asset(b"2"), asset(b"3")
    for each in (first, second, third, first):
        assert memory.keep(keeper, each)
    memory.keep(keeper, asset(b"4"))
    assert keeper.lost == [b"2"]
    assert memory.used_bytes == 3 * OVERHEAD_BYTES


def test_catalogs_share_one_limit_and_no_names() -> None:
    memory, one, other = FileMemory(2 * OVERHEAD_BYTES), Keeper(), Keeper()
    memory.keep(one, asset(b"a"))
    memory.keep(other, asset(b"a"))
    assert memory.used_bytes == 2 * OVERHEAD_BYTES
    memory.keep(other, asset(b"b"))
    assert one.lost == [b"a"]
    assert other.lost == []


def test_what_is_larger_than_the_memory_is_not_kept() -> None:
    memory, keeper = FileMemory(1000), Keeper()
    assert not memory.keep(keeper, asset(b"a", 1001))
    assert memory.used_bytes == 0


def test_dropping_gives_room() -> None:
    memory, keeper = FileMemory(OVERHEAD_BYTES), Keeper()
    memory.keep(keeper, asset(b"a"))
    memory.drop(keeper, b"a")
    memory.drop(keeper, b"a")
    memory.keep(keeper, asset(b"b"))
    assert keeper.lost == []
