"""`python -m bench.latency`: how long a visitor waits while a server is half busy, beside nginx.

First nginx and proxyd are loaded as fast as they answer, for their capacity. Then a visitor asks
every server at a constant rate: of an idle one, which shows what of the time is the bench's own; at
half of nginx's capacity, since the traffic does not get less when somebody changes the server; and
at half of proxyd's own. The load is wrk with clients who think between two requests, for a time by
chance. The visitor is the lab's generator, whose requests come whatever became of those before, and
whose times count from when each was due (no coordinated omission); it compares every answer.

Without TLS, which the lab's generator does not speak. Exit codes: as `python -m bench`.
"""

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from rich import box
from rich.console import Console
from rich.table import Table

from bench.checks import verify
from bench.cpu import on_cpus
from bench.errors import BenchError, SkipError
from bench.history import RESULTS
from bench.jobs import BROWSER_FIELDS, JOBS, Job
from bench.options import common, hand_over
from bench.report import BASIS, FAILED, rounded
from bench.servers import Server
from bench.setting import Setting, prepared
from bench.turns import in_turns
from proxy.errors import LabError
from proxy.lab.generator import Generator
from proxy.lab.load_job import GOOD, Ask, Crowd, LoadJob
from proxy.lab.services import HOST
from proxy.lab.visit import latencies, listed, percentile

NAMES = ("small", "hit", "forward")
AIM = 1.5
# Requests of the visitor for each second, on so many connections at most.
VISITOR_RATE, VISITOR_CONNECTIONS = 500, 64
TIMEOUT_S = 5.0
# Until all clients of the load are there; and how much longer than the visitor they stay.
RAMP_S, STAY_S = 1, 2
SHARE = 0.5
IDLE = "idle"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """What a visitor felt of one server in one round. `rate`: of all requests, per second."""

    p50_ms: float
    p99_ms: float
    p999_ms: float
    rate: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """One job at one load (requests per second): the rounds of each server, or why it has none."""

    job: Job
    load: str
    rate: float
    rounds: Mapping[str, Sequence[Waited]]
    failures: Mapping[str, str]

    def p99_ms(self, name: str) -> float:
        """Return the median of a server's rounds."""
        return statistics.median(each.p99_ms for each in self.rounds[name])

    def ratio(self, name: str) -> float | None:
        """Return a server's time in parts of nginx's; None where one of them has none."""
        if name not in self.rounds or "nginx" not in self.rounds:
            return None
        return self.p99_ms(name) / self.p99_ms("nginx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and say what came out."""
    options = parser().parse_args(arguments)
    console = Console()
    jobs = [job for job in JOBS if job.name in options.jobs]
    found: list[Felt] = []
    try:
        with (
            prepared(options.engines) as setting,
            on_cpus(setting.cpus),
            Generator(dict(os.environ)) as visitor,
        ):
            for job in jobs:
                with console.status(job.title):
                    found += measure(setting, visitor, job, options)
    except SkipError as reason:
        console.print(f"skipped: {reason}", highlight=False)
        return 0
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show(console, found, setting.about)
    hand_over(console, options, document(found, setting))
    for felt in found:
        for told in felt.failures.values():
            print(f"bench: {felt.job.title}, {felt.load}: {told}", file=sys.stderr)
    return int(any(felt.failures for felt in found))


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    told = "How long a visitor waits at half load, beside nginx."
    made = common("bench.latency", told, rounds=5, seconds=5, results=RESULTS / "latency")
    made.add_argument("--jobs", nargs="+", choices=NAMES, default=NAMES, help="what to measure")
    return made


def measure(
    setting: Setting, visitor: Generator, job: Job, options: argparse.Namespace
) -> list[Felt]:
    """Measure a job at each load. Raises BenchError when nginx or proxyd has no capacity."""
    seconds: int = options.seconds
    able = [server for server in setting.servers if server.does(job)]
    for server in able:
        verify(job, server)
    found = []
    for load, rate in loads(setting, job, able, seconds).items():
        rounds, failures = in_turns(
            able,
            options.rounds,
            partial(visit, setting, visitor, job, rate, seconds),
        )
        found.append(Felt(job=job, load=load, rate=rate, rounds=rounds, failures=failures))
    return found


def loads(setting: Setting, job: Job, able: Sequence[Server], seconds: int) -> dict[str, float]:
    """Return the loads by name, in requests per second. Raises BenchError."""
    found = {IDLE: 0.0}
    for server in able:
        if server.name in BASIS:
            whole = setting.wrk.round(job, server, seconds)
            if whole.errors:
                raise BenchError(f"{server.name} made {whole.errors} errors in {job.title}")
            found[f"half of {server.name}"] = SHARE * whole.requests / whole.duration_s
    return found


def visit(
    setting: Setting, visitor: Generator, job: Job, rate: float, seconds: int, server: Server
) -> Waited:
    """Let the visitor ask a server that is loaded to a rate meanwhile. Raises BenchError."""
    more = rate - VISITOR_RATE
    if more <= 0:
        return waited(ask(visitor, job, server, seconds), VISITOR_RATE)
    with setting.wrk.beside(job, server, more, RAMP_S + seconds + STAY_S) as taken:
        time.sleep(RAMP_S)
        times_ms = ask(visitor, job, server, seconds)
    (load,) = taken
    if load.errors:
        raise BenchError(f"{server.name} made {load.errors} errors under load")
    return waited(times_ms, VISITOR_RATE + load.requests / load.duration_s)


def ask(visitor: Generator, job: Job, server: Server, seconds: int) -> list[float]:
    """Return how long each of the visitor's requests took, in order of that. Raises BenchError."""
    fields = {"Host": f"{HOST}:{server.port}", **BROWSER_FIELDS, **job.fields}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"GET {job.path} HTTP/1.1\r\n{lines}\r\n".encode()
    crowd = Crowd(
        kind="open",
        ask=Ask(head=head, status=job.status, body=job.answer),
        count=VISITOR_CONNECTIONS,
        rate=VISITOR_RATE,
        exact=True,
    )
    told = visitor.run(
        LoadJob(
            host=HOST, port=server.port, duration_s=seconds, timeout_s=TIMEOUT_S, crowds=[crowd]
        )
    )
    (got,) = told.crowds
    if got.answers.keys() != {GOOD}:
        raise BenchError(f"{server.name} answered a visitor {listed(Counter(got.answers))}")
    return sorted(latencies(got.visits))


def waited(times_ms: list[float], rate: float) -> Waited:
    """Put the times of a round together."""
    p50_ms, p99_ms, p999_ms = (percentile(times_ms, percent) for percent in (50, 99, 99.9))
    return Waited(p50_ms=p50_ms, p99_ms=p99_ms, p999_ms=p999_ms, rate=rate)


def show(console: Console, found: Sequence[Felt], about: str) -> None:
    """Print the table."""
    console.print("ms within which 99 of 100 requests were answered (50 of 100)", highlight=False)
    names = list(dict.fromkeys(name for felt in found for name in felt.rounds))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("request", no_wrap=True)
    table.add_column("load", no_wrap=True)
    for title in ("per s", *names, "ratio"):
        table.add_column(title, justify="right", no_wrap=True)
    for felt in found:
        rate = f"{felt.rate:,.0f}" if felt.rate else f"{VISITOR_RATE}"
        table.add_row(
            felt.job.title, felt.load, rate, *(cell(felt, name) for name in names), judged(felt)
        )
    console.print(table)
    console.print(f"aim: {AIM:g}; of an idle server most of the time is the bench's own")
    console.print(about, style="dim", highlight=False)


def cell(felt: Felt, name: str) -> str:
    """Write one server's times."""
    if name not in felt.rounds:
        return FAILED if name in felt.failures else ""
    p50_ms = statistics.median(each.p50_ms for each in felt.rounds[name])
    return f"{felt.p99_ms(name):.2f} ({p50_ms:.2f})"


def judged(felt: Felt) -> str:
    """Write proxyd's ratio, in the colour of the aim where there is a load."""
    ratio = felt.ratio("proxyd")
    if ratio is None:
        return FAILED
    if not felt.rate:
        return f"{ratio:.2f}"
    return f"[{'green' if ratio <= AIM else 'yellow'}]{ratio:.2f}[/]"


def document(found: Sequence[Felt], setting: Setting) -> dict[str, Any]:
    """Return what `--json` and `--keep` write."""
    return {
        "machine": setting.about.splitlines(),
        "figure": "p99_ms",
        "skipped": dict(setting.skipped),
        "jobs": {
            f"{felt.job.name}, {felt.load}": {
                "aim": AIM if felt.rate else None,
                "ratio": rounded(felt.ratio("proxyd")),
                "valid": felt.ratio("proxyd") is not None,
                "failed": dict(felt.failures),
                "rate": round(felt.rate) or VISITOR_RATE,
                "servers": {
                    name: {"ratio": rounded(felt.ratio(name)), **times(rounds)}
                    for name, rounds in felt.rounds.items()
                },
            }
            for felt in found
        },
    }


def times(rounds: Sequence[Waited]) -> dict[str, float]:
    """Return a server's times as they are kept."""
    all_p99_ms = [each.p99_ms for each in rounds]
    return {
        "p50_ms": round(statistics.median(each.p50_ms for each in rounds), 4),
        "p99_ms": round(statistics.median(all_p99_ms), 4),
        "p99_ms_least": round(min(all_p99_ms), 4),
        "p99_ms_most": round(max(all_p99_ms), 4),
        "p999_ms": round(statistics.median(each.p999_ms for each in rounds), 4),
        "rate": round(statistics.median(each.rate for each in rounds)),
        "rounds": len(rounds),
    }


if __name__ == "__main__":
    sys.exit(main())
