"""`python -m bench`: every server, every job, in turns.

Exit codes: 0 measured or skipped, 1 a figure is invalid, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from bench.errors import BenchError, SkipError
from bench.jobs import JOBS
from bench.options import common, hand_over
from bench.report import complain, document, show
from bench.setting import prepared
from bench.turns import measured, warm


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and say what came out."""
    options = parser().parse_args(arguments)
    console = Console()
    jobs = [job for job in JOBS if job.name in options.jobs]
    rounds, seconds = (2, 1) if options.quick else (options.rounds, options.seconds)
    results = []
    try:
        with prepared(options.engines) as setting:
            wrk = setting.wrk
            for job in jobs:
                told = f"{job.title}: {rounds} rounds of {seconds} s for each server"
                with console.status(told):
                    results.append(
                        measured(
                            job,
                            setting.servers,
                            rounds,
                            warm(wrk),
                            lambda job, server: wrk.round(job, server, seconds),
                        )
                    )
    except SkipError as reason:
        console.print(f"skipped: {reason}", highlight=False)
        return 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show(console, results, setting.about)
    found = document(results, setting.about, setting.skipped)
    hand_over(console, options, found, kept=not options.quick)
    return complain(results, setting.skipped)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    names = [job.name for job in JOBS]
    made = common(
        "bench", "CPU per request of proxyd beside nginx and others.", rounds=5, seconds=3
    )
    made.add_argument("--jobs", nargs="+", choices=names, default=names, help="what to measure")
    made.add_argument("--quick", action="store_true", help="two rounds of a second, never kept")
    return made


if __name__ == "__main__":
    sys.exit(main())
