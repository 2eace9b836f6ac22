"""How long a visitor waits: small runs, and times that must not be believed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import latency
from bench.errors import BenchError
from bench.jobs import JOBS
from bench.latency import Felt, Waited, ask, waited
from proxy.lab.generator import Generator
from tests.bench.liars import liar
from tests.bench.test_bench import needs_the_programs

HIT = next(job for job in JOBS if job.name == "hit")


@pytest.fixture(scope="module")
def visitor() -> Iterator[Generator]:
    with Generator(dict(os.environ)) as running:
        yield running


def rounds(*p99_ms: float) -> list[Waited]:
    return [Waited(p50_ms=1, p99_ms=each, p999_ms=9, rate=1000) for each in p99_ms]


@needs_the_programs
@pytest.mark.timeout(180)
def test_a_visitor_waits_at_each_load_beside_nginx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "times.json"
    # However slow the machine is, there is to be a load beside the visitor.
    monkeypatch.setattr(latency, "VISITOR_RATE", 20)
    short = ["--rounds", "1", "--seconds", "1", "--json", str(file)]
    assert latency.main(["--jobs", "hit", *short]) == 0
    kept = json.loads(file.read_text())
    assert kept["figure"] == "p99_ms"
    assert set(kept["jobs"]) == {"hit, idle", "hit, half of nginx", "hit, half of proxyd"}
    for job in kept["jobs"].values():
        for name in ("nginx", "proxyd"):
            times = job["servers"][name]
            assert 0 < times["p50_ms"] <= times["p99_ms"] <= times["p999_ms"]
            assert times["rate"] >= 20
    assert "half of proxyd" in capsys.readouterr().out


def test_a_time_is_compared_with_nginxs_of_the_same_load() -> None:
    felt = Felt(
        job=HIT,
        load="half of nginx",
        rate=1000,
        rounds={"nginx": rounds(1, 2, 9), "proxyd": rounds(5, 3, 1)},
        failures={"caddy": "it lied"},
    )
    assert felt.ratio("proxyd") == pytest.approx(1.5)
    assert felt.ratio("caddy") is None
    assert latency.times(felt.rounds["proxyd"])["p99_ms_most"] == 5


def test_percentiles_are_of_all_times() -> None:
    found = waited([float(number) for number in range(1, 1001)], 500)
    assert (found.p50_ms, found.p99_ms, found.p999_ms) == (500, 990, 999)


def test_a_visitor_who_is_lied_to_makes_no_figure(
    visitor: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "VISITOR_RATE", 20)
    with liar(("X-Cache", "MISS", "HIT")) as server:
        assert len(ask(visitor, HIT, server, 1)) == 20
    with (
        liar(("X-Cache", "MISS", "HIT"), b"short") as server,
        pytest.raises(BenchError, match="answered a visitor 20 times wrong body"),
    ):
        ask(visitor, HIT, server, 1)
