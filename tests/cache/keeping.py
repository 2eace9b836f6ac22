"""A cache's folder with a worker's and a keeper's hands on it."""

from pathlib import Path

from proxy.cache.codec import encode
from proxy.cache.disk_file import ID_BYTES, fixed_layout, whole_file
from proxy.cache.disk_folder import name_of, path_of, store_whole
from proxy.cache.entry import Entry
from proxy.cache.head import Now
from proxy.cache.inventory import Inventory, Item, Stats
from proxy.cache.journal import Journal
from proxy.cache.upkeep import IDLE_S, Upkeep
from proxy.message import Fields

BOOT = b"b" * 16
KEY = b"http://h/%d"


class Place:
    """The folder, with clocks that stand still."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wall = 1_000_000.0
        self.monotonic = 5_000.0
        self.journal = Journal(folder, wall=lambda: self.wall, monotonic=lambda: self.monotonic)
        self.upkeep = Upkeep(folder, 1 << 40, self.now)

    def now(self) -> Now:
        return Now(self.wall, self.monotonic, BOOT)

    def begin(self, limit_bytes: int = 1 << 40) -> Upkeep:
        """Have another keeper in place of the one before."""
        self.upkeep.close()
        self.upkeep = Upkeep(self.folder, limit_bytes, self.now)
        return self.upkeep

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def put(
        self, number: int, *, tell: bool = True, tell_head: bool = False, **given: object
    ) -> Path:
        """Store an entry as a worker does; its content has `size` bytes."""
        size = given.pop("size", 10)
        assert isinstance(size, int)
        keep_s = given.pop("keep_s", 1000.0)
        assert isinstance(keep_s, float)
        options = {
            "key": KEY % number,
            "status": 200,
            "fields": Fields([(b"content-type", b"text/plain")]),
            "body": b"",
            "request_at": self.wall,
            "response_at": self.wall,
            "born_at": self.monotonic,
            "fresh_until": self.monotonic + 60,
            "swr_until": self.monotonic + 60,
            "sie_until": self.monotonic + 60,
            "keep_until": self.monotonic + keep_s,
        }
        entry = Entry(**(options | given))  # type: ignore[arg-type]
        name = name_of(entry.key, entry.variant)
        head = encode(entry, self.now(), size)
        file_bytes = self.store(name, head, bytes(size))
        if tell:
            self.journal.put(name, file_bytes, self.wall + keep_s, head if tell_head else b"")
            self.journal.flush()
        return Path(path_of(str(self.folder), name))

    def store(self, name: bytes, head: bytes, content: bytes = b"") -> int:
        layout = fixed_layout(bytes(ID_BYTES), head)
        return store_whole(str(self.folder), name, whole_file(layout, head, content))

    def work(self, most: int = 2000) -> float:
        """Take steps until there is nothing more to do; return what the last one said."""
        for _ in range(most):
            rest_s = self.upkeep.step()
            if rest_s >= IDLE_S:
                return rest_s
        raise AssertionError("it does not come to rest")

    def items(self) -> list[Item]:
        inventory = Inventory(self.folder)
        try:
            return inventory.ls(sort="key")
        finally:
            inventory.close()

    def keys(self) -> list[int]:
        return [int(item.key.rpartition("/")[2]) for item in self.items()]

    def stats(self) -> Stats:
        inventory = Inventory(self.folder)
        try:
            return inventory.stats()
        finally:
            inventory.close()

    def files(self) -> int:
        return len(list(self.folder.glob("??/*")))
