"""What came out: medians and spreads, as a table for people and as JSON."""

import platform
import statistics
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich import box
from rich.console import Console
from rich.table import Table

from bench.jobs import USUAL_CLIENTS, Job
from bench.load import Round
from bench.servers import Server


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
    """One job: the figures of both, by the name of the server."""

    job: Job
    figures: Mapping[str, Figures]

    @property
    def ratio(self) -> float:
        """Return proxyd's CPU in parts of nginx's."""
        return self.figures["proxyd"].median_us / self.figures["nginx"].median_us

    @property
    def errors(self) -> int:
        """Return the errors of both; with any the figures are void."""
        return sum(figures.errors for figures in self.figures.values())


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
        f"{cpu_model()}, {platform.system()} {platform.release()}\n"
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


def cpu_model() -> str:
    """Return the processor's own name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def numbers(cpus: set[int]) -> str:
    """Write a set of CPUs."""
    return ", ".join(map(str, sorted(cpus)))


def show(console: Console, results: Sequence[Result], about: str) -> None:
    """Print the table."""
    console.print("CPU per request in µs: median (least to most)", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("request", no_wrap=True)
    for name in ("nginx", "proxyd", "ratio", "aim"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(
            result.job.title,
            spread(result.figures["nginx"]),
            spread(result.figures["proxyd"]),
            verdict(result),
            "" if result.job.aim is None else f"{result.job.aim:.1f}",
        )
    console.print(table)
    for result in results:
        if result.job.clients > USUAL_CLIENTS:
            console.print(crowd(result), highlight=False)
    console.print(about, style="dim", highlight=False)


def crowd(result: Result) -> str:
    """Say how many of those who wait together went to the upstream, and how long they waited."""
    told = "; ".join(
        f"{name} {figures.fetches_per_1000:.2f}, 99 % within {figures.p99_s * 1000:.0f} ms"
        for name, figures in result.figures.items()
    )
    return f"{result.job.title}, {result.job.clients} clients, fetches for 1000 requests: {told}"


def spread(figures: Figures) -> str:
    """Write one server's figures."""
    decimals = 1 if figures.most_us < 1000 else 0
    return f"{figures.median_us:.{decimals}f} ({figures.least_us:.0f} to {figures.most_us:.0f})"


def verdict(result: Result) -> str:
    """Write the ratio, in the colour of the aim."""
    if result.errors:
        return f"[bold red]invalid: {result.errors} errors[/]"
    if result.job.aim is None:
        return f"{result.ratio:.2f}"
    colour = "green" if result.ratio <= result.job.aim else "yellow"
    return f"[{colour}]{result.ratio:.2f}[/]"


def document(results: Sequence[Result], about: str) -> dict[str, Any]:
    """Return what `--json` and `--keep` write."""
    return {
        "machine": about.splitlines(),
        "jobs": {
            result.job.name: {
                "aim": result.job.aim,
                "ratio": round(result.ratio, 3),
                "valid": not result.errors,
                "servers": {
                    name: {
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
