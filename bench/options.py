"""What the benchmarks have in common on their command lines, and where their figures go."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.engines.all import ALL, ENGINES
from bench.history import RESULTS, keep


def common(
    program: str, description: str, *, rounds: int, seconds: int, results: Path = RESULTS
) -> argparse.ArgumentParser:
    """Return the command line that all have, with their own numbers by default."""
    made = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    names = [engine.name for engine in ENGINES]
    made.add_argument(
        "--engines",
        nargs="+",
        choices=[*names, ALL],
        default=[],
        metavar="NAME",
        help=f"what to measure beside nginx and proxyd: {', '.join(names[2:])}, or {ALL} of them",
    )
    made.add_argument(
        "--rounds", type=positive, default=rounds, help=f"of each server (default {rounds})"
    )
    made.add_argument(
        "--seconds", type=positive, default=seconds, help=f"of each round (default {seconds})"
    )
    outlets(made, results)
    return made


def outlets(made: argparse.ArgumentParser, results: Path) -> None:
    """Add where the figures are to go."""
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    made.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        nargs="?",
        const=results,
        help="write them to a new file in a folder, for bench.compare",
    )


def positive(text: str) -> int:
    """Read a number from 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def hand_over(
    console: Console, options: argparse.Namespace, measured: Mapping[str, Any], *, kept: bool = True
) -> None:
    """Write the figures to where they were asked for."""
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
    if options.keep and kept:
        console.print(f"kept as {keep(options.keep, measured)}", style="dim", highlight=False)
