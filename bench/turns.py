"""Servers in turns: nginx, proxyd, nginx … so that what disturbs the machine hits all of them.

One that answers wrongly has failed, whatever it did before, and the others go on.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from bench.checks import verify
from bench.errors import BenchError
from bench.jobs import Job
from bench.load import Round, Wrk
from bench.report import Result, summarise
from bench.servers import Server

Taken = TypeVar("Taken")
Prepare = Callable[[Job, Server], None]
Measure = Callable[[Job, Server], Round]


def in_turns(
    servers: Sequence[Server], rounds: int, measure: Callable[[Server], Taken]
) -> tuple[dict[str, list[Taken]], dict[str, str]]:
    """Measure each server so often; return what that gave by name, and which failed and why."""
    taken: dict[str, list[Taken]] = {}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for server in servers:
            if server.name in failures:
                continue
            try:
                taken.setdefault(server.name, []).append(measure(server))
            except (BenchError, OSError) as error:
                failures[server.name] = str(error)
                taken.pop(server.name, None)
    return taken, failures


def measured(
    job: Job, servers: Sequence[Server], rounds: int, prepare: Prepare, measure: Measure
) -> Result:
    """Measure a job on all servers that are made for it."""
    able = [server for server in servers if server.does(job)]
    _, unready = in_turns(able, 1, lambda server: prepare(job, server))
    rest = [server for server in able if server.name not in unready]
    taken, failures = in_turns(rest, rounds, lambda server: measure(job, server))
    figures = {name: summarise(each) for name, each in taken.items()}
    return Result(job=job, figures=figures, failures={**unready, **failures})


def warm(wrk: Wrk, seconds: int = 1) -> Prepare:
    """Return what checks a server and warms it: files into memory, connections to the upstream."""

    def prepare(job: Job, server: Server) -> None:
        verify(job, server)
        wrk.round(job, server, seconds)

    return prepare
