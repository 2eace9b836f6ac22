"""What `proxyd cache stats` and `ls` show: the disk by its catalogue, the memory by the workers."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from proxy.cache.inventory import Inventory, InventoryError, Item, Stats
from proxy.pipeline.census import Census, Kept, Wanted
from proxy.tools.setting import Setting
from proxy.tools.show import console
from proxy.tools.todays import Today, todays
from proxy.tools.words import ago, lasting, size
from proxy.tools.workers import WorkerQuery

Sort = Literal["size", "age", "hits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry, wherever it is; times are seconds from now, `age_s` is negative for the future."""

    key: str
    variant: str
    status: int
    size_bytes: int
    hits: int
    age_s: float
    fresh_s: float
    where: str


def stats(setting: Setting, workers: WorkerQuery) -> dict[str, Any]:
    """Return how much there is, as JSON has it."""
    config = setting.config.cache
    on_disk: Stats | None = None
    trouble = "" if config.disk else "the cache has no disk"
    if config.disk:
        try:
            with closing(Inventory(setting.folder)) as inventory:
                on_disk = inventory.stats()
        except InventoryError as error:
            trouble = str(error)
    taken = workers.census(Wanted())
    return {
        "folder": str(setting.folder),
        "disk": None if on_disk is None else on_disk._asdict() | {"limit_bytes": config.disk},
        "disk_trouble": trouble,
        "memory": [
            {"entries": one.entries, "bytes": one.cost_bytes, "hits": one.hits} for one in taken
        ],
        "memory_limit_bytes": config.memory,
    }


def show_stats(found: dict[str, Any]) -> None:
    """Print what `stats` found."""
    out = console()
    out.print(Text(f"cache in {found['folder']}", style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    disk = found["disk"]
    if disk is None:
        table.add_row("disk", Text(found["disk_trouble"], style="yellow"))
    else:
        part = disk["disk_bytes"] / disk["limit_bytes"]
        entries = sum(disk["statuses"].values())
        table.add_row(
            "disk",
            f"{entries} entries, {size(disk['disk_bytes'])} of {size(disk['limit_bytes'])}"
            f" ({part:.0%})",
        )
        table.add_row("", f"{disk['hits']} hits of what is there now")
        if disk["oldest_at"] is not None:
            table.add_row("", f"the oldest was stored {ago(time.time() - disk['oldest_at'])}")
        if disk["unread"]:
            table.add_row("", f"{disk['unread']} files are still to be read by the keeper")
        for status, number in sorted(disk["statuses"].items()):
            table.add_row("", f"{status}: {number}")
    limit = size(found["memory_limit_bytes"])
    for number, worker in enumerate(found["memory"], 1):
        table.add_row(
            f"worker {number}",
            f"{worker['entries']} entries, {size(worker['bytes'])} of {limit},"
            f" {worker['hits']} hits",
        )
    if not found["memory"]:
        table.add_row("memory", Text("no proxyd runs, so no memory holds anything", style="dim"))
    out.print(table)


def ls(
    setting: Setting, workers: WorkerQuery, pattern: str, sort: Sort, limit: int
) -> tuple[list[Listed], str]:
    """Return the first entries that match, and what could not be read."""
    trouble = ""
    items: Sequence[Item] = ()
    if setting.config.cache.disk:
        try:
            with closing(Inventory(setting.folder)) as inventory:
                items = inventory.ls(pattern, sort, limit)
        except InventoryError as error:
            trouble = str(error)
    found = map(from_disk, todays(setting, items))
    listed = {(one.key, one.variant): one for one in found}
    for number, census in enumerate(workers.census(Wanted(pattern, sort, limit)), 1):
        add_memory(listed, census, number)
    order = {
        "size": lambda one: -one.size_bytes,
        "age": lambda one: -one.age_s,
        "hits": lambda one: -one.hits,
    }
    return sorted(listed.values(), key=order[sort])[:limit], trouble


def from_disk(today: Today) -> Listed:
    """Return an entry that the catalogue knows, and its file."""
    item = today.item
    return Listed(
        key=item.key,
        variant=item.variant,
        status=item.status,
        size_bytes=item.size_bytes,
        hits=item.hits,
        age_s=today.age_s,
        fresh_s=today.fresh_s,
        where="disk",
    )


def add_memory(listed: dict[tuple[str, str], Listed], census: Census, number: int) -> None:
    """Add what one worker has; of what is on disk as well, only that it has it."""
    for kept in census.items:
        key = (kept.key, kept.variant)
        held = listed.get(key)
        where = f"worker {number}" if held is None else f"{held.where}, worker {number}"
        listed[key] = with_memory(kept, held, where)


def with_memory(kept: Kept, held: Listed | None, where: str) -> Listed:
    """Return an entry as a worker's memory has it: hits are counted there first."""
    return Listed(
        key=kept.key,
        variant=kept.variant,
        status=kept.status,
        size_bytes=kept.size_bytes if held is None else held.size_bytes,
        hits=max(kept.hits, 0 if held is None else held.hits),
        age_s=kept.age_s,
        fresh_s=kept.fresh_s,
        where=where,
    )


def show_ls(listed: Sequence[Listed], trouble: str) -> None:
    """Print a list of entries."""
    out = console()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for heading in ("size", "hits", "age", "fresh", "status"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("key", ratio=1, overflow="fold")
    table.add_column("where", style="dim")
    for one in listed:
        fresh = (
            Text(lasting(one.fresh_s), style="green")
            if one.fresh_s > 0
            else Text("stale", style="yellow")
        )
        table.add_row(
            size(one.size_bytes),
            str(one.hits),
            lasting(max(0.0, one.age_s)),
            fresh,
            str(one.status),
            Text(one.key) + Text(f" {one.variant}" if one.variant else "", style="dim"),
            one.where,
        )
    if listed:
        out.print(table)
    else:
        out.print("nothing that matches is stored")
    if trouble:
        out.print(Text(trouble, style="yellow"))
