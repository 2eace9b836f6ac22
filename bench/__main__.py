"""`python -m bench`: both servers, every job, in turns.

Exit codes: 0 measured or skipped, 1 a figure is invalid, 2 wrong usage.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from bench.cpu import share_out
from bench.errors import BenchError, SkipError
from bench.jobs import JOBS, Job, verify, write_files
from bench.load import Round, Wrk
from bench.report import Result, document, machine, show, summarise
from bench.servers import Server, nginx, proxyd, require, upstream


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and say what came out."""
    options = parser().parse_args(arguments)
    console = Console()
    jobs = [job for job in JOBS if job.name in options.jobs]
    rounds, seconds = (2, 1) if options.quick else (options.rounds, options.seconds)
    try:
        results, about = measure(console, jobs, rounds, seconds)
    except SkipError as reason:
        console.print(f"skipped: {reason}", highlight=False)
        return 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show(console, results, about)
    if options.json:
        options.json.write_text(json.dumps(document(results, about), indent=2) + "\n")
    return 1 if any(result.errors for result in results) else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    names = [job.name for job in JOBS]
    made = argparse.ArgumentParser(
        prog="python -m bench", description="CPU per request of proxyd beside nginx."
    )
    made.add_argument("--jobs", nargs="+", choices=names, default=names, help="what to measure")
    made.add_argument("--rounds", type=positive, default=5, help="of each server (default 5)")
    made.add_argument("--seconds", type=positive, default=3, help="of each round (default 3)")
    made.add_argument("--quick", action="store_true", help="two rounds of a second")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return made


def positive(text: str) -> int:
    """Read a number from 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def measure(
    console: Console, jobs: Sequence[Job], rounds: int, seconds: int
) -> tuple[list[Result], str]:
    """Run both servers, and load them in turns. Raises SkipError, BenchError."""
    if sys.platform != "linux":
        raise SkipError("the CPU time of other processes is read as Linux gives it")
    require("nginx", "nginx-light")
    cpus = server_cpus, other_cpus = share_out()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        wrk = Wrk(folder, other_cpus)
        files = folder / "files"
        write_files(files)
        port = stack.enter_context(upstream(other_cpus))
        servers = [
            stack.enter_context(start(folder / start.__name__, files, port, server_cpus))
            for start in (nginx, proxyd)
        ]
        results = []
        for job in jobs:
            with console.status(f"{job.title}: {rounds} rounds of {seconds} s for each server"):
                results.append(in_turns(wrk, job, servers, rounds, seconds))
        return results, machine(servers, wrk.version, cpus)


def in_turns(wrk: Wrk, job: Job, servers: Sequence[Server], rounds: int, seconds: int) -> Result:
    """Measure one job: nginx, proxyd, nginx … so that what disturbs the machine hits both."""
    taken: dict[str, list[Round]] = {server.name: [] for server in servers}
    for server in servers:
        verify(job, server.port, server.name)
        wrk.round(job, server, 1)  # files into memory, connections to the upstream
    for _ in range(rounds):
        for server in servers:
            taken[server.name].append(wrk.round(job, server, seconds))
    return Result(job=job, figures={name: summarise(each) for name, each in taken.items()})


if __name__ == "__main__":
    sys.exit(main())
