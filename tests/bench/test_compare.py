"""What got slower from one run to another, and what is only chance."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import compare, history
from bench.errors import BenchError


def server(cpu_us: float, spread: float) -> dict[str, float]:
    return {"cpu_us": cpu_us, "cpu_us_least": cpu_us - spread, "cpu_us_most": cpu_us + spread}


def run_of(
    *, spread: float = 0.1, machine: str = "one", valid: bool = True, **proxyd_us: float
) -> dict[str, Any]:
    """Return the document of a run in which nginx took 10 µs for everything."""
    return {
        "machine": [machine],
        "jobs": {
            job: {
                "ratio": cpu_us / 10,
                "valid": valid,
                "servers": {"nginx": server(10, spread), "proxyd": server(cpu_us, spread)},
            }
            for job, cpu_us in proxyd_us.items()
        },
    }


@pytest.mark.parametrize(
    ("old_us", "new_us", "spread", "verdict"),
    [
        (8, 12, 0.1, "slower"),
        (12, 8, 0.1, "faster"),
        (8, 8.3, 0.1, ""),
        (8, 12, 2.5, ""),
        (8, 8, 0, ""),
    ],
)
def test_only_what_is_more_than_chance_is_a_change(
    old_us: float, new_us: float, spread: float, verdict: str
) -> None:
    found = compare.changes(run_of(hit=old_us, spread=spread), run_of(hit=new_us, spread=spread))
    assert [change.verdict for change in found] == [verdict]


def test_only_valid_jobs_of_both_runs_are_compared() -> None:
    old, new = run_of(hit=8, small=8), run_of(hit=8, storing=9)
    assert [change.job for change in compare.changes(old, new)] == ["hit"]
    with pytest.raises(BenchError, match="no valid job in common"):
        compare.changes(old, run_of(hit=8, valid=False))


def test_the_two_newest_runs_are_compared_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cpu_us in (99.0, 8.0, 12.0):
        history.keep(tmp_path, run_of(hit=cpu_us))
    assert compare.main(["--results", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "+50 %" in told
    assert "slower" in told
    assert "not of one machine" not in told


def test_a_run_that_is_named_is_compared_with_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oldest, *_ = [history.keep(tmp_path, run_of(hit=cpu_us)) for cpu_us in (99.0, 8.0, 12.0)]
    assert compare.main([str(oldest), "--results", str(tmp_path)]) == 0
    assert "faster" in capsys.readouterr().out


def test_runs_of_two_machines_are_compared_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history.keep(tmp_path, run_of(hit=8, machine="one"))
    history.keep(tmp_path, run_of(hit=8, machine="another"))
    assert compare.main(["--results", str(tmp_path)]) == 0
    assert "not of one machine" in capsys.readouterr().out


def test_without_two_runs_the_way_to_them_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history.keep(tmp_path, run_of(hit=8))
    assert compare.main(["--results", str(tmp_path)]) == 1
    assert "no two runs to compare; `make bench` adds one" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"jobs": []}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(BenchError, match=r"other\.json"):
        history.load(file)


def test_what_another_figure_is_of_is_not_compared(tmp_path: Path) -> None:
    waited = {**run_of(hit=8), "figure": "p99_ms"}
    with pytest.raises(BenchError, match="have not measured the same"):
        compare.changes(run_of(hit=8), waited)


def test_times_are_compared_as_costs_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for p99_ms in (2.0, 3.0):
        times = {"p99_ms": p99_ms, "p99_ms_least": p99_ms - 0.1, "p99_ms_most": p99_ms + 0.1}
        nginx = {"p99_ms": 1.0, "p99_ms_least": 0.9, "p99_ms_most": 1.1}
        job = {"ratio": p99_ms, "valid": True, "servers": {"nginx": nginx, "proxyd": times}}
        history.keep(tmp_path, {"figure": "p99_ms", "jobs": {"hit, idle": job}})
    assert compare.main(["--results", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "+50 %" in told
    assert "ms" in told


def test_figures_without_their_parts_are_refused() -> None:
    with pytest.raises(BenchError, match="not what `make bench` writes"):
        compare.changes(run_of(hit=8), {"jobs": {"hit": {"valid": True}}})


def test_a_run_is_kept_with_its_time_and_commit(tmp_path: Path) -> None:
    file = history.keep(tmp_path / "new", run_of(hit=8))
    kept = json.loads(file.read_text())
    assert kept["at"].startswith("20")
    assert kept["commit"] == history.commit()
    assert history.load(file)["jobs"]["hit"]["ratio"] == pytest.approx(0.8)
