"""The benchmark itself: small runs of the real programs, and figures that must not be believed."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench import __main__ as bench
from bench import history, jobs
from bench.cpu import cpu_s, on_cpus, share_out, used_s
from bench.engines.engine import require
from bench.errors import BenchError, SkipError
from bench.load import Round, read_round
from bench.report import summarise
from tests.process.running import wait_for

ROOT = Path(__file__).parents[2]
SMALL = jobs.JOBS[0]
CONDITIONAL = next(job for job in jobs.JOBS if job.name == "conditional")


def absent() -> str:
    try:
        for program in ("wrk", "nginx"):
            require(program, program)
    except SkipError as reason:
        return str(reason)
    return "" if sys.platform == "linux" else "the benchmark reads CPU times as Linux gives them"


needs_the_programs = pytest.mark.skipif(bool(absent()), reason=absent() or "all there")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_the_programs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_over_when_it_is_interrupted(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "--jobs", "small"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        root = psutil.Process(process.pid)
        wait_for(lambda: named(root, "wrk"), "the first load", 60)
        all_processes = root.children(recursive=True)
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    _, left = psutil.wait_procs(all_processes, timeout=5)
    assert left == []


def named(root: psutil.Process, name: str) -> bool:
    with suppress(psutil.Error):
        return any(one.name() == name for one in root.children(recursive=True))
    return False


@needs_the_programs
def test_both_servers_are_measured_in_one_run(tmp_path: Path) -> None:
    file, folder = tmp_path / "figures.json", tmp_path / "kept"
    short = ("--rounds", "1", "--seconds", "1", "--json", str(file), "--keep", str(folder))
    done = run("--jobs", "small", "forward", "handshake", *short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 KB file" in done.stdout
    measured = json.loads(file.read_text())["jobs"]
    assert set(measured) == {"small", "forward", "handshake"}
    for job in measured.values():
        assert job["valid"]
        for name in ("nginx", "proxyd"):
            assert job["servers"][name]["errors"] == 0
            assert 1 < job["servers"][name]["cpu_us"] < 10_000
    (kept,) = history.runs(folder)
    assert history.load(kept)["jobs"] == measured


@needs_the_programs
def test_the_cache_is_measured_where_it_answers_and_where_it_stores(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    names = ("hit", "conditional", "hit-64k", "storing", "collapsed", "expiring")
    done = run("--jobs", *names, "--rounds", "1", "--seconds", "1", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads(file.read_text())["jobs"]
    assert set(measured) == set(names)
    for job in measured.values():
        assert job["valid"]
    for name in ("nginx", "proxyd"):
        fetches = {job: measured[job]["servers"][name]["fetches_per_1000"] for job in names}
        assert fetches["hit"] == fetches["conditional"] == fetches["hit-64k"] == 0
        assert fetches["storing"] == pytest.approx(1000, rel=0.2)
        assert 0 < fetches["collapsed"] < 250


@needs_the_programs
def test_figures_of_a_quick_run_are_not_kept(tmp_path: Path) -> None:
    done = run("--jobs", "hit-tls", "--quick", "--keep", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert history.runs(tmp_path) == []


@needs_the_programs
def test_a_wrong_answer_is_no_figure_but_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = jobs.Job(
        name="small", title="gone", path="/static/gone", answer=b"x", needs=jobs.FILES, aim=1.0
    )
    monkeypatch.setattr(bench, "JOBS", (wrong,))
    assert bench.main(["--quick"]) == 1
    told = capsys.readouterr()
    assert "failed" in told.out
    for name in ("nginx", "proxyd"):
        assert f"{name} answered /static/gone with status 404" in told.err


@needs_linux
@pytest.mark.parametrize("program", ["wrk", "nginx"])
def test_a_missing_program_is_named_with_its_package_and_is_no_failure(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def which(name: str, path: str | None = None) -> str | None:
        return None if name == program else f"/usr/bin/{name}"

    monkeypatch.setattr("shutil.which", which)
    assert bench.main(["--quick"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"skipped: {program} is not installed")
    assert "apt-get install" in told


def test_a_system_that_hides_cpu_times_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert bench.main([]) == 0
    assert capsys.readouterr().out.startswith("skipped: ")


@pytest.mark.parametrize("arguments", [["--jobs", "none"], ["--rounds", "0"], ["--seconds", "x"]])
def test_wrong_usage_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "errors"),
    [
        ("result requests=10 bytes=20000 microseconds=1000000 p99=900 errors=0", 0),
        ("result requests=10 bytes=20000 microseconds=1000000 p99=900 errors=3", 3),
        # Redirects are no errors to wrk, but they are shorter than the file.
        ("result requests=10 bytes=5000 microseconds=1000000 p99=900 errors=0", 1),
    ],
)
def test_answers_that_are_errors_or_too_short_are_counted(words: str, errors: int) -> None:
    taken = read_round(SMALL, f"Running 1s test\n{words}\n", 0.001, 0)
    assert (taken.requests, taken.errors) == (10, errors)
    assert taken.cpu_us == pytest.approx(100)


def test_an_answer_with_content_where_none_was_due_is_an_error() -> None:
    words = "result requests=10 bytes={} microseconds=1000000 p99=900 errors=0"
    assert read_round(CONDITIONAL, words.format(4000), 0.001, 0).errors == 0
    assert read_round(CONDITIONAL, words.format(14000), 0.001, 0).errors == 1


@pytest.mark.parametrize(
    "words",
    ["unable to connect", "result requests=0 bytes=0 microseconds=1000000 p99=900 errors=9"],
)
def test_a_round_without_answers_is_no_figure(words: str) -> None:
    with pytest.raises(BenchError):
        read_round(SMALL, words, 0.001, 0)


def test_the_median_is_what_counts_and_the_spread_is_told() -> None:
    costs_s = (0.010, 0.030, 0.011)
    rounds = [Round(requests=1000, errors=1, duration_s=2, cpu_s=cost) for cost in costs_s]
    figures = summarise(rounds)
    assert figures.median_us == pytest.approx(11)
    assert figures.least_us == pytest.approx(10)
    assert figures.most_us == pytest.approx(30)
    assert (figures.rounds, figures.requests, figures.errors) == (3, 3000, 3)
    assert figures.per_second == pytest.approx(500)


def test_what_goes_to_the_upstream_is_told_for_a_thousand_requests() -> None:
    rounds = [
        Round(requests=1000, errors=0, duration_s=1, cpu_s=0.01, p99_s=p99_s, fetches=fetches)
        for p99_s, fetches in ((0.5, 15), (0.1, 16), (0.2, 17))
    ]
    figures = summarise(rounds)
    assert figures.fetches_per_1000 == pytest.approx(16)
    assert figures.p99_s == pytest.approx(0.2)


def test_a_process_that_ended_under_load_is_no_figure() -> None:
    assert used_s({1: 1.0, 2: 5.0}, {1: 1.5, 2: 7.0, 3: 0.25}) == pytest.approx(2.75)
    with pytest.raises(BenchError, match="process 2 ended"):
        used_s({1: 1.0, 2: 5.0}, {1: 1.5, 3: 7.0})


def test_the_head_is_like_a_browsers() -> None:
    fields = [f"{name}: {value}\r\n" for name, value in jobs.BROWSER_FIELDS.items()]
    assert len(fields) + 1 == 12  # with Host
    assert 500 < len("".join(fields)) < 800


@needs_linux
def test_the_cpu_of_another_process_is_counted() -> None:
    code = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        assert 0.2 <= cpu_s(busy.pid) < 2
        busy.communicate(b"\n")


@needs_linux
def test_a_process_that_ended_is_no_figure() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    with pytest.raises(BenchError, match="ended while"):
        cpu_s(ended.pid)


@needs_linux
def test_the_server_has_a_cpu_of_its_own_where_there_are_two() -> None:
    ours = os.sched_getaffinity(0)
    server_cpus, others = share_out()
    assert len(server_cpus) == 1
    assert others
    assert len(ours) == 1 or not server_cpus & others
    with on_cpus(server_cpus):
        assert os.sched_getaffinity(0) == server_cpus
    assert os.sched_getaffinity(0) == ours
