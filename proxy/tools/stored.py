"""What is stored for a request, on the disk, seen as a worker would see it. Changes nothing.

Files are read by name, so the answer is what they say now, and not what the catalogue remembers.
The memory of workers holds nothing else when there is a disk, but what was too new for it.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from proxy.cache.boot import boot_name
from proxy.cache.codec import Head, MarkerHead, Now, entry_of
from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.disk_work import load_named, read_head
from proxy.cache.entry import Entry
from proxy.cache.inventory import Inventory, InventoryError, Item
from proxy.cache.purges import PURGES, Purges, Verdict
from proxy.errors import PurgeError, StartError, StoredContentError
from proxy.pipeline.question import Question


class Stored(NamedTuple):
    """An entry without its content, and what purges say of it; `hits` are of the catalogue."""

    entry: Entry
    purged: Verdict = Verdict.NOTHING
    hits: int = 0


class Found(NamedTuple):
    """What is stored under the key of a question.

    `lists` are the Vary names of its variants, newest first; `chosen` is the entry for this
    request; `others` are those for others. `trouble` says what could not be read.
    """

    lists: tuple[tuple[bytes, ...], ...] = ()
    chosen: Stored | None = None
    others: Sequence[Stored] = ()
    trouble: str = ""


def clocks() -> Now:
    """Return both clocks, as the entries of this machine have them."""
    return Now(time.time(), time.monotonic(), boot_name())


def look_up(folder: Path, question: Question) -> Found:
    """Return what the cache in `folder` holds for a question."""
    purges = _purges(folder)
    items = {bytes.fromhex(item.name): item for item in _items(folder, question.key)}
    try:
        held = _head(folder, question.key, b"")
        lists = held.lists if isinstance(held, MarkerHead) else ((),)
        chosen: Head | None = held if isinstance(held, Head) else None
        if isinstance(held, MarkerHead):
            for names in lists:
                found = _head(folder, question.key, question.variant(names))
                if isinstance(found, Head):
                    chosen = found
                    break
        heads = [chosen, *_others(folder, items, chosen)]
        stored = [_stored(head, purges, items) for head in heads if head is not None]
    except (StoredContentError, OSError) as error:
        return Found(trouble=str(error))
    finally:
        if purges is not None:
            purges.close()
    if held is None and not stored:
        return Found()
    return Found(
        lists,
        stored.pop(0) if chosen is not None else None,
        stored,
    )


def _head(folder: Path, key: bytes, variant: bytes) -> Head | MarkerHead | None:
    """Return the head of the file of that key and variant, None when there is none."""
    loaded = load_named(str(folder), name_of(key, variant), -1)
    head = loaded if loaded is None or isinstance(loaded, MarkerHead) else loaded.head
    return head if head is not None and head.key == key else None


def _others(folder: Path, items: dict[bytes, Item], chosen: Head | None) -> list[Head]:
    """Return the other variants that the catalogue knows of and that are still there."""
    heads = []
    for name in items:
        try:
            head = read_head(path_of(str(folder), name))
        except (StoredContentError, OSError):
            continue
        if isinstance(head, Head) and (chosen is None or head.variant != chosen.variant):
            heads.append(head)
    return heads


def _stored(head: Head, purges: Purges | None, items: dict[bytes, Item]) -> Stored:
    now = clocks()
    entry = entry_of(head, b"", now)
    entry.size_bytes = head.size_bytes
    item = items.get(name_of(head.key, head.variant))
    verdict = Verdict.NOTHING
    if purges is not None:
        since = entry.purge_seq
        verdict = purges.verdict(entry)
        entry.purge_seq = since
        purges.apply(entry, now.monotonic)
    return Stored(entry, verdict, 0 if item is None else item.hits)


def _items(folder: Path, key: bytes) -> list[Item]:
    """Return what the catalogue says of a key; nothing when there is none, or none that is read."""
    try:
        inventory = Inventory(folder)
    except InventoryError:
        return []
    try:
        return inventory.of_key(key.decode("latin-1"))
    except InventoryError:
        return []
    finally:
        inventory.close()


def _purges(folder: Path) -> Purges | None:
    """Return the purges, None where there are none."""
    if not (folder / PURGES).exists():
        return None
    try:
        return Purges(folder)
    except (StartError, PurgeError):
        return None
