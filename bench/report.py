"""What came out: medians and spreads, as a table for people and as JSON."""

import platform
import statistics
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from rich import box
from rich.console import Console
from rich.table import Table

from bench.engines import all as engines
from bench.jobs import USUAL_CLIENTS, Job
from bench.load import Round
from bench.servers import Server
from proxy.lab.machine import cpu_name

# Ratios are of the second to the first.
BASIS = tuple(engine.name for engine in engines.BASIS)
FAILED = "[bold red]failed[/]"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One server's rounds of one job, in short; `*_us` are microseconds of CPU for each request.

    `fetches_per_1000` is what the upstream got of a thousand requests.
    """

    rounds: int
    requests: int
    errors: int
    per_second: float
    median_us: float
    least_us: float
    most_us: float
    p99_s: float
    fetches_per_1000: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One job: the figures of each server by its name, and why another has none."""

    job: Job
    figures: Mapping[str, Figures]
    failures: Mapping[str, str] = field(default_factory=dict)

    def ratio(self, name: str = "proxyd") -> float | None:
        """Return a server's CPU in parts of nginx's; None where one of them was not measured."""
        if name not in self.figures or "nginx" not in self.figures:
            return None
        return self.figures[name].median_us / self.figures["nginx"].median_us

    @property
    def errors(self) -> int:
        """Return the errors of nginx and proxyd; with any the ratio is void."""
        return sum(self.figures[name].errors for name in BASIS if name in self.figures)

    @property
    def valid(self) -> bool:
        """Say whether there is a ratio, and it may be believed."""
        return self.ratio() is not None and not self.errors


def summarise(rounds: Sequence[Round]) -> Figures:
    """Put several rounds together."""
    costs = [each.cpu_us for each in rounds]
    requests = sum(each.requests for each in rounds)
    return Figures(
        rounds=len(rounds),
        requests=requests,
        errors=sum(each.errors for each in rounds),
        per_second=statistics.median(each.requests / each.duration_s for each in rounds),
        median_us=statistics.median(costs),
        least_us=min(costs),
        most_us=max(costs),
        p99_s=statistics.median(each.p99_s for each in rounds),
        fetches_per_1000=sum(each.fetches for each in rounds) / requests * 1000,
    )


def machine(servers: Sequence[Server], wrk_version: str, cpus: tuple[set[int], set[int]]) -> str:
    """Say on what and with what it was measured."""
    server_cpus, other_cpus = cpus
    names = "; ".join(f"{server.name} {server.version}" for server in servers)
    return (
        f"{cpu_name()}, {platform.system()} {platform.release()}\n"
        f"{names}; wrk {wrk_version}\n"
        f"Python {platform.python_version()}, {python_build()}\n"
        f"server on CPU {numbers(server_cpus)}, load and upstream on CPU {numbers(other_cpus)}"
    )


def python_build() -> str:
    """Say how Python was built: optimised by a profile it is a quarter faster.

    A distribution may do that by means of its own, as Debian does.
    """
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "--enable-optimizations" in arguments
    how = "configured with" if optimised else "configured without"
    return f"{how} --enable-optimizations, {sysconfig.get_config_var('prefix')}"


def numbers(cpus: set[int]) -> str:
    """Write a set of CPUs."""
    return ", ".join(map(str, sorted(cpus)))


def show(console: Console, results: Sequence[Result], about: str) -> None:
    """Print nginx and proxyd with their spread, and below them the others."""
    console.print("CPU per request in µs: median (least to most)", highlight=False)
    rows = (
        (result.job.title, *(cell(result, name) for name in BASIS), *judged(result))
        for result in results
    )
    console.print(grid((*BASIS, "ratio", "aim"), rows))
    others = beside(results)
    if others:
        console.print("Others, beside their ratio to nginx", highlight=False)
        rows = ((result.job.title, *(other(result, name) for name in others)) for result in results)
        console.print(grid(others, (row for row in rows if any(row[1:]))))
    for result in results:
        if result.job.group and result.job.clients > USUAL_CLIENTS:
            console.print(crowd(result), highlight=False)
    console.print(about, style="dim", highlight=False)


def grid(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table with a row for each request."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("request", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def beside(results: Sequence[Result]) -> list[str]:
    """Return the servers beside nginx and proxyd that something is told of."""
    told = {name for result in results for name in (*result.figures, *result.failures)}
    return [engine.name for engine in engines.ENGINES if engine.name in told.difference(BASIS)]


def complain(results: Sequence[Result], skipped: Mapping[str, str]) -> int:
    """Say which servers are not in the figures, and why; return the exit code."""
    for reason in skipped.values():
        print(f"bench: left out: {reason}", file=sys.stderr)
    wrong = False
    for result in results:
        for reason in result.failures.values():
            print(f"bench: {result.job.title}: {reason}", file=sys.stderr)
        wrong = wrong or bool(result.failures)
        wrong = wrong or any(figures.errors for figures in result.figures.values())
    return int(wrong)


def crowd(result: Result) -> str:
    """Say how many of those who wait together went to the upstream, and how long they waited."""
    told = "; ".join(
        f"{name} {figures.fetches_per_1000:.2f}, 99 % within {figures.p99_s * 1000:.0f} ms"
        for name, figures in result.figures.items()
    )
    return f"{result.job.title}, {result.job.clients} clients, fetches for 1000 requests: {told}"


def cell(result: Result, name: str) -> str:
    """Write one server's figures with their spread."""
    if name not in result.figures:
        return FAILED if name in result.failures else ""
    figures = result.figures[name]
    return f"{written(figures)} ({figures.least_us:.0f} to {figures.most_us:.0f})"


def other(result: Result, name: str) -> str:
    """Write one server's figure with its ratio to nginx's; "" for what it is not made for."""
    if name not in result.figures:
        return FAILED if name in result.failures else ""
    figures, ratio = result.figures[name], result.ratio(name)
    if figures.errors:
        return f"[bold red]invalid: {figures.errors} errors[/]"
    return written(figures) if ratio is None else f"{written(figures)}  {ratio:5.2f}"


def written(figures: Figures) -> str:
    """Write microseconds with as many digits as mean something."""
    decimals = 1 if figures.most_us < 1000 else 0
    return f"{figures.median_us:.{decimals}f}"


def judged(result: Result) -> tuple[str, str]:
    """Write the ratio, in the colour of the aim, and the aim."""
    ratio, aim = result.ratio(), result.job.aim
    written_aim = "" if aim is None else f"{aim:.1f}"
    if result.errors:
        return f"[bold red]invalid: {result.errors} errors[/]", written_aim
    if ratio is None:
        return FAILED, written_aim
    if aim is None:
        return f"{ratio:.2f}", written_aim
    colour = "green" if ratio <= aim else "yellow"
    return f"[{colour}]{ratio:.2f}[/]", written_aim


def document(results: Sequence[Result], about: str, skipped: Mapping[str, str]) -> dict[str, Any]:
    """Return what `--json` and `--keep` write; `figure` names what is to be compared."""
    return {
        "machine": about.splitlines(),
        "figure": "cpu_us",
        "skipped": dict(skipped),
        "jobs": {
            result.job.name: {
                "aim": result.job.aim,
                "ratio": rounded(result.ratio()),
                "valid": result.valid,
                "failed": dict(result.failures),
                "servers": {
                    name: {
                        "ratio": rounded(result.ratio(name)),
                        "cpu_us": round(figures.median_us, 3),
                        "cpu_us_least": round(figures.least_us, 3),
                        "cpu_us_most": round(figures.most_us, 3),
                        "requests": figures.requests,
                        "requests_per_s": round(figures.per_second),
                        "p99_ms": round(figures.p99_s * 1000, 3),
                        "fetches_per_1000": round(figures.fetches_per_1000, 3),
                        "rounds": figures.rounds,
                        "errors": figures.errors,
                    }
                    for name, figures in result.figures.items()
                },
            }
            for result in results
        },
    }


def rounded(ratio: float | None) -> float | None:
    """Return a ratio as it is written."""
    return None if ratio is None else round(ratio, 3)
