"""Costs over more connections and more entries: small runs of the real programs."""

import json
from pathlib import Path

import pytest

from bench import flat, idle
from bench.errors import BenchError
from bench.flat import Series, fill
from bench.jobs import JOBS, Job
from bench.load import Round, lua
from bench.report import Result, summarise
from bench.servers import Server
from bench.workers import CONTENT
from tests.bench.liars import liar
from tests.bench.test_bench import needs_linux, needs_the_programs

SHORT = ("--rounds", "1", "--seconds", "1")


def run(file: Path, *arguments: str) -> dict[str, dict[str, object]]:
    assert flat.main([*arguments, *SHORT, "--json", str(file)]) == 0
    kept: dict[str, dict[str, object]] = json.loads(file.read_text())
    return kept


@needs_the_programs
@pytest.mark.timeout(180)
def test_requests_on_few_and_on_more_connections_are_compared(tmp_path: Path) -> None:
    kept = run(
        tmp_path / "kept", "--over", "connections", "--jobs", "small", "--connections", "40", "2"
    )
    assert list(kept["jobs"]) == ["small-2-connections", "small-40-connections"]
    assert set(kept["growth"]["1 KB file over connections"]) == {"nginx", "proxyd"}  # type: ignore[call-overload]


@needs_the_programs
@pytest.mark.timeout(180)
@pytest.mark.parametrize("layer", ["memory", "disk"])
def test_hits_among_few_and_among_more_entries_are_compared(tmp_path: Path, layer: str) -> None:
    kept = run(tmp_path / "kept", "--over", layer, "--entries", "3", "300")
    assert list(kept["jobs"]) == [f"{layer}-3-entries", f"{layer}-300-entries"]
    assert set(kept["growth"][f"{layer} hit over entries"]) == {"nginx", "proxyd"}  # type: ignore[call-overload]


def test_growth_is_of_the_most_in_parts_of_the_fewest() -> None:
    def result(**costs_s: float) -> Result:
        return Result(
            job=JOBS[0],
            figures={
                name: summarise([Round(requests=1, errors=0, duration_s=1, cpu_s=cost_s)])
                for name, cost_s in costs_s.items()
            },
        )

    series = Series(name="x", results=[result(nginx=1, proxyd=2), result(), result(proxyd=3)])
    assert series.growth() == {"proxyd": 1.5}


class Slow:
    """A load generator that fills for ever."""

    def fill(self, job: Job, server: Server, first: int, seconds: int) -> tuple[int, int]:
        return 10, 10


def test_a_fill_ends_when_its_time_is_over() -> None:
    many = Job(
        name="x", title="x", path="/x", answer=b"", needs=JOBS[0].needs, among=10**9, clients=1
    )
    with (
        liar(("X-Cache", "MISS", "HIT")) as server,
        pytest.raises(BenchError, match="liar stored 8 entries in 0 minutes"),
    ):
        fill(Slow(), 0.0, many, server)  # type: ignore[arg-type]


def test_wrk_asks_for_stored_urls_by_chance_and_for_all_of_them_in_turn() -> None:
    some = Job(name="x", title="x", path="/x", answer=b"", needs=JOBS[0].needs, among=7)
    assert "local group, among, first = 0, 7, -1\n" in lua(some)
    assert "local group, among, first = 0, 7, 3\n" in lua(some, first=3)


@needs_linux
def test_idle_connections_are_held_and_weighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "SECONDS", 0.1)
    file = tmp_path / "kept"
    assert idle.main(["60", "--json", str(file)]) == 0
    kept = json.loads(file.read_text())
    assert kept["connections"] == 60
    assert kept["worker_kb"] > 1000
    assert 0 < kept["beside_p50_ms"] <= kept["beside_p99_ms"]
    assert idle.ASK.body == CONTENT
