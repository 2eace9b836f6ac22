"""`python -m bench.compare [OLD [NEW]]`: what got slower, and what faster, from one run to another.

What counts is proxyd's figure in parts of nginx's in the same run: whatever else the machine did
was in the way of both. The figure is CPU for each request, or what a run says that it measured.
Without files, the newest run is compared with the one before it.

Exit codes: 0 nothing got slower, 1 something did or cannot be compared, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich import box
from rich.console import Console
from rich.table import Table

from bench.errors import BenchError
from bench.history import RESULTS, load, runs

# Medians of runs of the same code on a machine with nothing else to do differ by up to 5 %.
NOISE = 0.05
UNITS = {"cpu_us": "µs", "p99_ms": "ms"}
COLOURS = {"slower": "bold red", "faster": "green", "": ""}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One job of both runs: proxyd's figure in parts of nginx's, and in its own unit."""

    job: str
    old_ratio: float
    new_ratio: float
    old_own: float
    new_own: float
    overlap: bool

    @property
    def verdict(self) -> str:
        """Say "slower" or "faster" when it is more than chance, "" when it may be that."""
        change = self.new_ratio / self.old_ratio - 1
        if self.overlap or abs(change) <= NOISE:
            return ""
        return "slower" if change > 0 else "faster"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print."""
    options = parser().parse_args(arguments)
    console = Console()
    try:
        old_file, new_file = choose(options.old, options.new, options.results)
        old, new = load(old_file), load(new_file)
        found = changes(old, new)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    unit = UNITS.get(str(new.get("figure", "cpu_us")), "")
    show(console, found, unit, (name(old, old_file), name(new, new_file)))
    if old.get("machine") != new.get("machine"):
        console.print("not of one machine, or not with the same programs:", style="yellow")
        for kept in (old, new):
            console.print("\n".join(kept.get("machine", ())) + "\n", style="dim", highlight=False)
    return 1 if any(change.verdict == "slower" for change in found) else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m bench.compare", description="What got slower from one run to another."
    )
    made.add_argument("old", type=Path, nargs="?", help="by default the run before the new one")
    made.add_argument("new", type=Path, nargs="?", help="by default the newest")
    made.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    return made


def choose(old: Path | None, new: Path | None, folder: Path) -> tuple[Path, Path]:
    """Return the two files. Raises BenchError when there are none."""
    kept = runs(folder)
    if new is None and kept:
        new = kept[-1]
    if new is not None and old is None:
        before = [file for file in kept if file.name < new.name]
        old = before[-1] if before else None
    if old is None or new is None:
        raise BenchError(f"{folder} has no two runs to compare; `make bench` adds one")
    return old, new


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the jobs that both runs have measured. Raises BenchError when there are none."""
    figure = old.get("figure", "cpu_us")
    if figure != new.get("figure", "cpu_us"):
        raise BenchError("the two runs have not measured the same")
    try:
        found = [
            change(job, old["jobs"][job], measured, figure)
            for job, measured in new["jobs"].items()
            if job in old["jobs"] and measured["valid"] and old["jobs"][job]["valid"]
        ]
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise BenchError(f"not what `make bench` writes: {error!r}") from None
    if not found:
        raise BenchError("the two runs have no valid job in common")
    return found


def change(job: str, old: Mapping[str, Any], new: Mapping[str, Any], figure: str) -> Change:
    """Return what changed in one job."""
    (old_least, old_most), (new_least, new_most) = spread(old, figure), spread(new, figure)
    return Change(
        job=job,
        old_ratio=old["ratio"],
        new_ratio=new["ratio"],
        old_own=old["servers"]["proxyd"][figure],
        new_own=new["servers"]["proxyd"][figure],
        overlap=old_least <= new_most and new_least <= old_most,
    )


def spread(measured: Mapping[str, Any], figure: str) -> tuple[float, float]:
    """Return proxyd's least and most in parts of nginx's median."""
    nginx, proxyd = measured["servers"]["nginx"][figure], measured["servers"]["proxyd"]
    return proxyd[f"{figure}_least"] / nginx, proxyd[f"{figure}_most"] / nginx


def name(kept: Mapping[str, Any], file: Path) -> str:
    """Call a run by its time and commit."""
    return f"{kept.get('at', file.name)} {kept.get('commit', '')}".strip()


def show(console: Console, found: Sequence[Change], unit: str, runs: tuple[str, str]) -> None:
    """Print the table."""
    console.print("from {}\nto   {}".format(*runs), highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("request", no_wrap=True)
    for title in ("ratio", "now", "change", unit, "now"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    for each in found:
        table.add_row(
            each.job,
            f"{each.old_ratio:.2f}",
            f"{each.new_ratio:.2f}",
            f"{(each.new_ratio / each.old_ratio - 1) * 100:+.0f} %",
            f"{each.old_own:.1f}",
            f"{each.new_own:.1f}",
            each.verdict,
            style=COLOURS[each.verdict],
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
