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

from bench.certificate import write_certificate
from bench.checks import verify
from bench.cpu import share_out
from bench.errors import BenchError, SkipError
from bench.history import RESULTS, keep
from bench.jobs import JOBS, Job, write_files
from bench.load import Round, Wrk
from bench.report import Result, document, machine, show, summarise
from bench.servers import Server, Work, nginx, proxyd, require, upstream


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
    measured = document(results, about)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
    if options.keep and not options.quick:
        console.print(f"kept as {keep(options.keep, measured)}", style="dim", highlight=False)
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
    made.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        nargs="?",
        const=RESULTS,
        help="write them to a new file in a folder, for bench.compare; not those of --quick",
    )
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
        work = prepared(folder, stack.enter_context(upstream(other_cpus)))
        wrk = Wrk(folder, work.upstream_port, other_cpus)
        servers = [
            stack.enter_context(start(folder / start.__name__, work, server_cpus))
            for start in (nginx, proxyd)
        ]
        results = []
        for job in jobs:
            with console.status(f"{job.title}: {rounds} rounds of {seconds} s for each server"):
                results.append(in_turns(wrk, job, servers, rounds, seconds))
        return results, machine(servers, wrk.version, cpus)


def prepared(folder: Path, upstream_port: int) -> Work:
    """Write the files that both servers need."""
    work = Work(
        files=folder / "files",
        upstream_port=upstream_port,
        certificate=folder / "bench.pem",
        key=folder / "bench.key",
    )
    write_files(work.files)
    write_certificate(work.certificate, work.key)
    return work


def in_turns(wrk: Wrk, job: Job, servers: Sequence[Server], rounds: int, seconds: int) -> Result:
    """Measure one job: nginx, proxyd, nginx … so that what disturbs the machine hits both."""
    taken: dict[str, list[Round]] = {server.name: [] for server in servers}
    for server in servers:
        verify(job, server)
        wrk.round(job, server, 1)  # files into memory, connections to the upstream
    for _ in range(rounds):
        for server in servers:
            taken[server.name].append(wrk.round(job, server, seconds))
    return Result(job=job, figures={name: summarise(each) for name, each in taken.items()})


if __name__ == "__main__":
    sys.exit(main())
