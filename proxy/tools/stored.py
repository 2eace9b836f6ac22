"""What is stored for a request, on the disk and in the memory of workers. Changes nothing.

Files are read by name, so the answer is what they say now, and not what the catalogue remembers.
Workers are asked: what is a moment old is not on the disk yet, and a cache may have no disk.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from proxy.cache import codec
from proxy.cache.boot import boot_name
from proxy.cache.codec import entry_of
from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.disk_load import load_named, read_head
from proxy.cache.entry import Entry
from proxy.cache.head import Head, MarkerHead, Now
from proxy.cache.inventory import Inventory, InventoryError, Item
from proxy.cache.purges import PURGES, Purges, Verdict
from proxy.errors import CommandError, PurgeError, StartError, StoredContentError
from proxy.pipeline.census import Wanted
from proxy.pipeline.question import Question
from proxy.tools.workers import WorkerQuery

NOBODY = "no proxyd runs, so this is what is on the disk"


class Stored(NamedTuple):
    """An entry without its content, and what purges say of it.

    `hits` are of the catalogue, or of the memory of workers; `where` says who has it.
    """

    entry: Entry
    purged: Verdict = Verdict.NOTHING
    hits: int = 0
    where: str = "on disk"


class Found(NamedTuple):
    """What is stored under the key of a question.

    `lists` are the Vary names of its variants, newest first; `chosen` is the entry for this
    request; `older` are for it as well, where a worker has not met the newer one; `others` are
    those for other requests. `trouble` says what could not be read, `unseen` why no memory was.
    """

    lists: tuple[tuple[bytes, ...], ...] = ()
    chosen: Stored | None = None
    others: Sequence[Stored] = ()
    trouble: str = ""
    older: Sequence[Stored] = ()
    unseen: str = ""


def clocks() -> Now:
    """Return both clocks, as the entries of this machine have them."""
    return Now(time.time(), time.monotonic(), boot_name())


def look_up(folder: Path, question: Question, workers: WorkerQuery) -> Found:
    """Return what the cache in `folder`, and the workers that use it, hold for a question."""
    purges = purges_in(folder)
    try:
        on_disk = _on_disk(folder, question, purges)
        try:
            held = _in_memory(question, purges, workers)
        except CommandError as error:
            return on_disk._replace(unseen=f"the memory of the workers is not seen: {error}")
        if held is None:
            return on_disk._replace(unseen=NOBODY)
        return _together(question, on_disk, held)
    finally:
        if purges is not None:
            purges.close()


def _on_disk(folder: Path, question: Question, purges: Purges | None) -> Found:
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
    except (StoredContentError, OSError) as error:
        return Found(trouble=str(error))
    stored = [as_stored(head, purges, _hits(head, items)) for head in heads if head is not None]
    if held is None and not stored:
        return Found()
    return Found(
        lists,
        stored.pop(0) if chosen is not None else None,
        stored,
    )


def _in_memory(
    question: Question, purges: Purges | None, workers: WorkerQuery
) -> list[Stored] | None:
    """Return what each worker has under the key; None when there is no worker.

    Raises CommandError.
    """
    taken = workers.census(Wanted(key=question.key.decode("latin-1")))
    found = []
    for number, census in enumerate(taken, 1):
        for held in census.held:
            try:
                head = codec.decode(held.head)
            except msgspec.DecodeError as error:
                raise CommandError(f"worker {number} is of another version: {error}") from None
            if isinstance(head, Head):
                stored = as_stored(head, purges, held.hits)
                found.append(stored._replace(where=f"in the memory of worker {number}"))
    return found if taken else None


def _together(question: Question, on_disk: Found, held: list[Stored]) -> Found:
    """Put what workers have beside what is on the disk, each answer once."""
    ours = [each for each in held if question.variant(each.entry.vary) == each.entry.variant]
    theirs = [each for each in held if each not in ours]
    if on_disk.chosen is not None:
        ours.append(on_disk.chosen)
    once = _each_once(ours)
    lists = dict.fromkeys([*on_disk.lists, *(each.entry.vary for each in held)])
    return on_disk._replace(
        lists=tuple(lists),
        chosen=once[0] if once else None,
        older=once[1:],
        others=_each_once([*theirs, *on_disk.others]),
    )


def _each_once(found: Iterable[Stored]) -> list[Stored]:
    """Return what is usable first and newest first; what several have, once, with all of them."""
    once: dict[object, Stored] = {}
    for stored in sorted(
        found, key=lambda each: (each.purged is Verdict.HARD, -each.entry.response_at)
    ):
        entry = stored.entry
        date = entry.fields.get(b"date")
        same = (entry.variant, entry.status, date, entry.etag, entry.size_bytes, stored.purged)
        known = once.get(same)
        if known is None:
            once[same] = stored
        else:
            where = f"{known.where}, {stored.where}"
            once[same] = known._replace(hits=max(known.hits, stored.hits), where=where)
    return list(once.values())


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


def as_stored(head: Head, purges: Purges | None, hits: int) -> Stored:
    """Return the entry that a file's head describes, with what the purges have done to it."""
    now = clocks()
    entry = entry_of(head, b"", now)
    entry.size_bytes = head.size_bytes
    verdict = Verdict.NOTHING
    if purges is not None:
        since = entry.purge_seq
        verdict = purges.verdict(entry)
        entry.purge_seq = since
        purges.apply(entry, now.monotonic)
    return Stored(entry, verdict, hits)


def _hits(head: Head | None, items: dict[bytes, Item]) -> int:
    """Return how often the catalogue knows an entry to have been used."""
    item = None if head is None else items.get(name_of(head.key, head.variant))
    return 0 if item is None else item.hits


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


def purges_in(folder: Path) -> Purges | None:
    """Return the purges, None where there are none."""
    if not (folder / PURGES).exists():
        return None
    try:
        return Purges(folder)
    except (StartError, PurgeError):
        return None
