"""`python -m bench.flat`: whether a request costs the same with many connections, and many entries.

    --over connections    so many clients that all ask at once, of a small file and of a memory hit
    --over memory, disk   hits, each on one of so many entries; proxyd has only that layer then

Entries come in through the network, as they do in life. A million of them take some minutes for
each server and layer, 4 GB of disk each, and 4 GB of memory, so they are for who asks for them:
`--entries 10 10000 1000000`. Exit codes: as `python -m bench`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from rich.console import Console

from bench.cpu import wait_until_idle
from bench.engines.engine import Room
from bench.errors import BenchError, SkipError
from bench.history import RESULTS
from bench.jobs import CACHE, DISK, JOBS, SMALL, Job
from bench.load import Wrk, open_s
from bench.options import common, hand_over, positive
from bench.report import Result, complain, document, show
from bench.servers import Server
from bench.setting import Setting, prepared
from bench.turns import measured, warm

OVER = ("connections", "memory", "disk")
BASES = ("small", "hit")
CONNECTIONS = (10, 1000, 10_000)
ENTRIES = (10, 10_000)
# So many are stored within a second.
FEW = 1000
# Of each entry: a file's blocks, and generously what proxyd counts in memory.
DISK_KIB, MEMORY_KIB = 8, 6
FILL_S = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One job at several sizes, the least first."""

    name: str
    results: Sequence[Result]

    def growth(self) -> dict[str, float]:
        """Return what the largest size costs in parts of the least, by server."""
        first, last = self.results[0].figures, self.results[-1].figures
        return {
            name: round(last[name].median_us / first[name].median_us, 3)
            for name in first
            if name in last
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and say what came out."""
    options = parser().parse_args(arguments)
    console = Console()
    found: list[Series] = []
    about, skipped = "", {}
    try:
        for what in dict.fromkeys(options.over):
            with prepared(options.engines, room(what, options)) as setting:
                about, skipped = setting.about, dict(setting.skipped)
                measure = over_connections if what == "connections" else over_entries
                found += measure(console, setting, what, options)
    except SkipError as reason:
        console.print(f"skipped: {reason}", highlight=False)
        return 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    results = [result for series in found for result in series.results]
    show(console, results, about)
    for series in found:
        told = ", ".join(f"{name} {growth:.2f}" for name, growth in series.growth().items())
        console.print(f"{series.name}: the last in parts of the first: {told}", highlight=False)
    growth = {series.name: series.growth() for series in found}
    hand_over(console, options, {**document(results, about, skipped), "growth": growth})
    return complain(results, skipped)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    told = "Whether a request costs the same with many connections and many cached entries."
    made = common("bench.flat", told, rounds=3, seconds=5, results=RESULTS / "flat")
    made.add_argument("--over", nargs="+", choices=OVER, default=OVER, help="more and more of what")
    made.add_argument("--jobs", nargs="+", choices=BASES, default=BASES, help="over connections")
    made.add_argument("--connections", nargs="+", type=positive, default=CONNECTIONS)
    made.add_argument("--entries", nargs="+", type=positive, default=ENTRIES)
    made.add_argument(
        "--minutes", type=positive, default=30, help="for one server to store all (default 30)"
    )
    return made


def room(what: str, options: argparse.Namespace) -> Room:
    """Return what the servers must hold."""
    if what == "connections":
        return Room(connections=max(1024, max(options.connections) * 2))
    entries = max(options.entries)
    return Room(
        disk_mib=max(256, entries * DISK_KIB // 1024),
        memory_mib=max(128, entries * MEMORY_KIB // 1024),
        layers="memory" if what == "memory" else "disk",
    )


def over_connections(
    console: Console, setting: Setting, _: str, options: argparse.Namespace
) -> list[Series]:
    """Measure jobs with more and more clients."""
    found = []
    for base in (job for job in JOBS if job.name in options.jobs):
        results = []
        for count in sorted(options.connections):
            title = f"{base.title}, {count:,} open"
            job = replace(base, name=f"{base.name}-{count}-connections", title=title, clients=count)
            with console.status(title):
                results.append(
                    measured(
                        job,
                        setting.servers,
                        options.rounds,
                        warm(setting.wrk, open_s(job)),
                        lambda job, server: setting.wrk.settled(job, server, options.seconds),
                    )
                )
        found.append(Series(name=f"{base.title} over connections", results=results))
    return found


def over_entries(
    console: Console, setting: Setting, layer: str, options: argparse.Namespace
) -> list[Series]:
    """Measure hits with more and more entries, those before among them."""
    results = []
    for count in sorted(options.entries):
        title = f"{layer} hit, {count:,} entries"
        job = Job(
            name=f"{layer}-{count}-entries",
            title=title,
            path="/cached/new",
            answer=SMALL,
            needs=CACHE if layer == "memory" else DISK,
            source="cache",
            among=count,
        )
        with console.status(title):
            results.append(
                measured(
                    job,
                    setting.servers,
                    options.rounds,
                    partial(fill, setting.wrk, options.minutes * 60.0),
                    lambda job, server: setting.wrk.round(job, server, options.seconds),
                )
            )
    return [Series(name=f"{layer} hit over entries", results=results)]


def fill(wrk: Wrk, limit_s: float, job: Job, server: Server) -> None:
    """Have a server store all that a job asks for, check and warm it. Raises BenchError.

    wrk drops what is under way when it ends, so each piece begins a little before the end of the
    one before, and the last is one that came to the end and in which nothing was new.
    """
    deadline = time.monotonic() + limit_s
    seconds = FILL_S if job.among > FEW else 1
    first = asked = 0
    fetched = 1
    while fetched or asked < job.among - first:
        asked, fetched = wrk.fill(job, server, first, seconds)
        first = max(first, min(first + fetched, job.among) - 2 * job.clients)
        if time.monotonic() > deadline:
            minutes = limit_s / 60
            raise BenchError(f"{server.name} stored {first:,} entries in {minutes:.0f} minutes")
    wait_until_idle(server.roots, limit_s)
    warm(wrk)(job, server)


if __name__ == "__main__":
    sys.exit(main())
