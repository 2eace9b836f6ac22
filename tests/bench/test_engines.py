"""The servers beside nginx and proxyd: small runs of those that are installed, and of fakes."""

import json
import sys
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.engines import all as engines
from bench.errors import BenchError, SkipError
from bench.jobs import JOBS, Job
from bench.load import Round
from bench.report import Result, complain, document, summarise
from bench.servers import Server
from bench.turns import measured
from proxy.lab.services import find_program
from tests.bench.liars import liar

OTHERS = engines.ENGINES[len(engines.BASIS) :]
SMALL = JOBS[0]
ONE = Round(requests=1000, errors=0, duration_s=1, cpu_s=0.01)
NAMES = ("small", "forward", "hit", "conditional", "handshake", "storing", "collapsed")


def absent(*programs: str) -> bool:
    return sys.platform != "linux" or any(find_program(program) is None for program in programs)


@pytest.mark.skipif(absent("wrk", "nginx"), reason="wrk or nginx is not there")
@pytest.mark.timeout(300)
def test_engines_that_are_installed_do_what_they_are_made_for(tmp_path: Path) -> None:
    installed = [engine for engine in OTHERS if not absent(engine.program)]
    if not installed:
        pytest.skip("none of haproxy, varnish and caddy is installed")
    file = tmp_path / "figures.json"
    short = ["--rounds", "1", "--seconds", "1", "--json", str(file)]
    assert bench.main(["--engines", "all", "--jobs", *NAMES, *short]) == 0
    found = json.loads(file.read_text())["jobs"]
    for engine in installed:
        made_for = {job.name for job in JOBS if job.needs <= engine.serves}
        assert {name for name in NAMES if engine.name in found[name]["servers"]} == (
            made_for.intersection(NAMES)
        )
    for job in found.values():
        nginx_us = job["servers"]["nginx"]["cpu_us"]
        for figures in job["servers"].values():
            assert figures["errors"] == 0
            assert figures["ratio"] == pytest.approx(figures["cpu_us"] / nginx_us, rel=0.01)


def test_no_engine_is_asked_for_what_it_is_not_made_for() -> None:
    made_for = {
        engine.name: {job.name for job in JOBS if job.needs <= engine.serves}
        for engine in engines.ENGINES
    }
    assert made_for["nginx"] == made_for["proxyd"] == {job.name for job in JOBS}
    assert made_for["caddy"] == {"small", "large", "forward", "handshake"}
    assert made_for["haproxy"].isdisjoint({"small", "hit-10m", "collapsed"})
    assert made_for["varnish"].isdisjoint({"small", "hit-tls", "hit-10m"})


def test_an_engine_that_is_not_installed_is_left_out_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def which(name: str, path: str | None = None) -> str | None:
        return None if name == "varnishd" else f"/usr/bin/{name}"

    monkeypatch.setattr("shutil.which", which)
    taken, skipped = engines.chosen(["all"])
    assert [engine.name for engine in taken] == ["nginx", "proxyd", "haproxy", "caddy"]
    assert skipped == {"varnish": "varnishd is not installed; on Debian: apt-get install varnish"}
    assert engines.chosen([])[0] == list(engines.BASIS)


def test_nothing_is_measured_without_nginx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(SkipError, match="nginx is not installed"):
        engines.chosen(["all"])


def servers(*names: str) -> list[Server]:
    return [
        Server(name=name, version="1", serves=SMALL.needs, port=1, tls_port=1, roots=())
        for name in names
    ]


def test_servers_are_measured_in_turns_and_those_not_made_for_a_job_not_at_all() -> None:
    asked: list[str] = []
    idle = Server(name="idle", version="1", serves=frozenset(), port=1, tls_port=1, roots=())

    def measure(job: Job, server: Server) -> Round:
        asked.append(server.name)
        return ONE

    result = measured(SMALL, [*servers("nginx", "proxyd"), idle], 2, lambda *_: None, measure)
    assert asked == ["nginx", "proxyd", "nginx", "proxyd"]
    assert set(result.figures) == {"nginx", "proxyd"}
    assert (result.ratio(), result.valid) == (1, True)


def test_one_that_answers_wrongly_has_failed_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rounds: list[str] = []

    def prepare(job: Job, server: Server) -> None:
        if server.name == "proxyd":
            raise BenchError("proxyd answered with status 404")

    def measure(job: Job, server: Server) -> Round:
        rounds.append(server.name)
        if server.name == "caddy" and rounds.count("caddy") == 2:
            raise BenchError("caddy asked the upstream 9 times")
        return ONE

    three = servers("nginx", "proxyd", "caddy")
    result = measured(SMALL, three, 3, prepare, measure)
    assert rounds == ["nginx", "caddy", "nginx", "caddy", "nginx"]
    assert set(result.figures) == {"nginx"}
    assert result.failures == {
        "proxyd": "proxyd answered with status 404",
        "caddy": "caddy asked the upstream 9 times",
    }
    assert (result.ratio(), result.valid) == (None, False)
    kept = document([result], "machine", {})["jobs"]["small"]
    assert (kept["ratio"], kept["valid"], kept["failed"]) == (None, False, result.failures)
    assert complain([result], {"varnish": "varnishd is not installed"}) == 1
    told = capsys.readouterr().err
    assert "left out: varnishd is not installed" in told
    assert "1 KB file: proxyd answered with status 404" in told


def test_a_liar_among_the_servers_is_found_out_before_it_is_measured() -> None:
    from bench.checks import verify

    hit = next(job for job in JOBS if job.name == "hit")
    with liar(("X-Cache", "MISS", "HIT"), b"short") as server:
        result = measured(hit, [server], 1, verify, lambda *_: ONE)
    assert result.figures == {}
    assert "are not the 200 and 1024 bytes" in result.failures["liar"]


def test_errors_of_any_server_make_a_run_fail() -> None:
    bad = summarise([Round(requests=1000, errors=3, duration_s=1, cpu_s=0.01)])
    good = summarise([ONE])
    figures = {"nginx": good, "proxyd": good, "caddy": bad}
    result = Result(job=SMALL, figures=figures)
    assert result.valid
    assert complain([result], {}) == 1
    assert not Result(job=SMALL, figures={"nginx": good, "proxyd": bad}).valid
