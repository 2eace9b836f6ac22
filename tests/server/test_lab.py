"""`proxyd lab` itself, with tiny sizes, on every stack that is installed here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from proxy.lab.catalog import KINDS, THREADS, Kind, Site
from proxy.lab.experiments.all import EXPERIMENTS
from proxy.lab.experiments.dynamic import DynamicPage
from proxy.lab.experiments.malformed import MalformedRequests
from proxy.lab.model import Report, Result, from_json
from proxy.lab.run import Plan, measure
from proxy.lab.running import running
from proxy.lab.services import Build, Service
from proxy.lab.sizes import PACES
from tests.lab.browser import check_numbers as check_page_numbers
from tests.lab.browser import check_pictures, needs_browser, opened, running_browser

PROXYD = Path(sys.executable).with_name("proxyd")
# The machine may have much else to do, and each run starts a stack twice.
TIMEOUT_S = 240

# Answers everything at once, and with nothing but a page of its own.
LIAR = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"[]" if self.path == "/lab/seen" else b"a page, fast\\n"
        self.send_response(int(sys.argv[2]) if self.path == "/lab/dynamic" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROXYD, "lab", "--tiny", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for its end, check that all that it started is gone by then, return its output."""
    seen: set[psutil.Process] = set()
    while process.poll() is None:  # its output fits into the pipes
        seen.update(children(process))
        time.sleep(0.05)
    left = [one for one in seen if one.is_running() and one.status() != "zombie"]
    for one in left:
        one.kill()
    assert len(seen) > 2
    assert left == []
    return process.communicate()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("kind", KINDS, ids=[kind.key for kind in KINDS])
def test_every_stack_that_is_installed_is_measured(kind: Kind, tmp_path: Path) -> None:
    arguments = ("--app", "own", "--stacks", kind.key, "--json", "out.json")
    with command(tmp_path, *arguments) as process:
        out, err = ended(process)
    assert process.returncode == 0, err
    report = from_json((tmp_path / "out.json").read_bytes())
    assert [one.number for one in report.experiments] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    (stack,) = report.stacks
    if kind.missing():
        assert stack.skipped in out.replace("\n", " ")
        return
    assert stack.configuration[0].name == "command"
    for experiment in report.experiments:
        (result,) = experiment.results
        assert result.outcome == "measured", (experiment.key, result.reason)
        assert experiment.headline in result.figures
        assert result.figures.keys() <= {metric.key for metric in experiment.metrics} | EXTRA
        assert experiment.title in out
    check_numbers(kind, report)


@needs_browser
@pytest.mark.timeout(TIMEOUT_S)
def test_the_page_of_a_run_is_drawn_and_has_its_numbers(tmp_path: Path) -> None:
    with command(tmp_path, "--app", "own", "--stacks", "waitress,proxyd-cache") as process:
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    report = from_json((tmp_path / "proxyd-lab.json").read_bytes())
    with (
        running_browser() as browser,
        opened(browser, tmp_path / "proxyd-lab.html", "light", 390) as (page, said),
    ):
        drawn = page.locator(".picture").evaluate_all("all => all.map(one => one.dataset.picture)")
        assert set(drawn) == {"bars", "distribution", "timeline", "outcomes", "journey"}
        check_pictures(page, len(report.stacks))
        shown = page.locator("section > h2").evaluate_all("all => all.map(one => one.id)")
        assert [one.key for one in report.experiments] == [key for key in shown if key in KEYS]
        check_page_numbers(page, report)
        assert report.machine.cpu in page.locator(".machine").inner_text()
        for stack in report.stacks:
            for file in stack.configuration:
                assert file.text in page.locator("pre").all_text_contents()
    assert said == []


# Figures of the load that an experiment takes on its way and has no column for.
EXTRA = {"memory"}
KEYS = [one.key for one in EXPERIMENTS]


def found(report: Report, key: str) -> Result:
    (result,) = next(one for one in report.experiments if one.key == key).results
    return result


def check_numbers(kind: Kind, report: Report) -> None:
    """Check what holds however busy the machine is."""
    dynamic = found(report, "dynamic")
    assert len(dynamic.figures["cpu"].rounds) == PACES["tiny"].rounds
    assert dynamic.answers.keys() == {"good"}
    assert {one.layer for one in dynamic.processes} == set(kind.layers) - {"application"}
    check_journey(kind, report)
    timeline = found(report, "restart").timeline
    assert timeline is not None
    assert timeline.marks[0].text == "the application is killed"
    through = found(report, "malformed").figures["through"].median
    if "proxyd" in kind.layers:
        assert through == 0
        assert found(report, "restart").errors == 0
    elif "nginx" not in kind.layers:
        assert through > 0  # the forged address at least: nobody is there to take it out


def check_journey(kind: Kind, report: Report) -> None:
    """Check that the parts follow one another, and that each is told by who knows it."""
    result = found(report, "journey")
    names = [span.name for span in result.journey]
    ended_ms = 0.0
    for span in result.journey:
        assert span.start_ms == pytest.approx(ended_ms, abs=0.01)
        ended_ms = span.start_ms + span.duration_ms
    total = result.figures["total"]
    assert total.least - 0.01 <= ended_ms <= total.most + 0.01
    assert names[0] == "connecting"
    if kind.layers[0] == "proxyd":
        assert {"on the way", "accept"} <= set(names)
    else:
        assert {"accept", "queue", "answer"}.isdisjoint(names)
    if kind.key == "proxyd-cache":
        assert "cache" in names
        assert {"server", "computing", "waiting"}.isdisjoint(names)
        assert "application" not in result.figures
    else:
        assert {"server", "computing"} <= set(names)
        assert result.figures["computing"].median <= result.figures["application"].median


@contextmanager
def lying(status: int) -> Iterator[Kind]:
    def build(site: Site) -> Build:
        arguments = [sys.executable, "-c", LIAR, str(site.port), str(status)]
        return Build(services=[Service(name="liar", command=arguments, shown="liar")])

    yield Kind(
        key="liar", title="Liar", summary="Fast.", layers=["liar", "application"],
        missing=lambda: "", version=lambda: "1", build=build,
    )  # fmt: skip


def measured(kind: Kind) -> Report:
    plan = Plan(
        pace="tiny", sizes=PACES["tiny"], kinds=[kind], target="", page="/",
        experiments=[DynamicPage(), MalformedRequests()],
    )  # fmt: skip
    return measure(plan, lambda *_: None)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize(
    ("status", "reason"), [(200, "times wrong body"), (500, "times status 500")]
)
def test_a_stack_that_lies_has_failed_and_has_no_figures(status: int, reason: str) -> None:
    with lying(status) as kind:
        dynamic = found(measured(kind), "dynamic")
    assert dynamic.outcome == "failed"
    assert reason in dynamic.reason
    assert dynamic.figures == {}


@pytest.mark.timeout(TIMEOUT_S)
def test_a_stack_that_does_not_start_is_told_with_its_log() -> None:
    def build(_: Site) -> Build:
        arguments = [sys.executable, "-c", "raise SystemExit('no such port')"]
        return Build(services=[Service(name="broken", command=arguments, shown="broken")])

    kind = Kind(
        key="broken", title="Broken", summary="", layers=["broken", "application"],
        missing=lambda: "", version=lambda: "1", build=build,
    )  # fmt: skip
    report = measured(kind)
    dynamic = found(report, "dynamic")
    assert dynamic.outcome == "failed"
    assert dynamic.reason == "broken ended as it started"
    assert "no such port" in report.notes[-1]


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_over_when_it_is_interrupted(number: int, tmp_path: Path) -> None:
    with command(tmp_path, "--app", "own", "--stacks", "proxyd") as process:
        while len(children(process)) < 5:  # the generator, master, worker, application, control
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, number)
        ended(process)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--app", "nothing:app"), "nothing:app cannot be loaded: ModuleNotFoundError"),
        (("--app", "shop:app", "--page", "/gone"), "answers /gone with 404 Not Found"),
        (("--stacks", "apache"), "no stack 'apache'"),
        (("--json", "none/out.json"), "there is no folder"),
    ],
)
def test_what_cannot_be_measured_is_told_before(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('404 Not Found', [])\n"
        "    return [b'gone']\n"
    )
    with command(tmp_path, *arguments) as process:
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert message in err
    assert "Traceback" not in err


# Has one page, which is never the same, and only with its query.
CLOCK = """
import time

class Clock:
    def __call__(self, environ, start_response):
        there = (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/now", "zone=utc")
        start_response("200 OK" if there else "404 Not Found", [("Content-Type", "text/plain")])
        return [str(time.time_ns()).encode()]

class make:
    app = Clock()
"""


@pytest.mark.timeout(TIMEOUT_S)
def test_an_application_of_one_s_own_is_measured_also_when_its_page_is_never_the_same(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "clock.py").write_text(CLOCK)
    arguments = ("--app", "shop.clock:make.app", "--page", "/now?zone=utc")
    less = ("--stacks", "waitress,proxyd-cache", "--only", "dynamic,public")
    with command(tmp_path, *arguments, *less) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert "2 stacks, 2 experiments, 2 rounds: about " in out
    report = from_json((tmp_path / "proxyd-lab.json").read_bytes())
    assert report.options.application == "shop.clock:make.app"
    assert report.options.page == "/now?zone=utc"
    for experiment in report.experiments:
        assert [one.outcome for one in experiment.results] == ["measured", "measured"]
        assert all(set(one.answers) == {"good"} for one in experiment.results)
    assert "shop.clock:make.app" in (tmp_path / "proxyd-lab.html").read_text()


# Answers until it is asked to hang.
HANGING = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/hang":
            time.sleep(1000)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.timeout(TIMEOUT_S)
def test_a_stack_that_answers_nobody_any_more_is_started_again(tmp_path: Path) -> None:
    def build(site: Site) -> Build:
        arguments = [sys.executable, "-c", HANGING, str(site.port)]
        return Build(services=[Service(name="hanging", command=arguments, shown="hanging")])

    kind = Kind(
        key="hanging", title="Hanging", summary="", layers=["hanging", "application"],
        missing=lambda: "", version=lambda: "1", build=build,
    )  # fmt: skip
    with running(kind, tmp_path / "stack", tmp_path, dict(os.environ)) as stack:
        assert stack.recover()
        assert stack.ask("/hang") is None
        assert not stack.recover()
        assert stack.answers()


@pytest.mark.timeout(TIMEOUT_S)
def test_one_stack_runs_at_a_time() -> None:
    kinds = [kind for kind in KINDS if kind.key in {"waitress", "proxyd"}]
    there: list[list[str]] = []
    # What other tests share runs to the end of all of them.
    before = set(psutil.Process().children(recursive=True))

    def advance(text: str, _: int) -> None:
        if text.endswith(": starting"):
            processes = set(psutil.Process().children(recursive=True)) - before
            there.append([" ".join(process.cmdline()) for process in processes])

    plan = Plan(
        pace="tiny", sizes=PACES["tiny"], kinds=kinds, target="", page="/",
        experiments=[DynamicPage()],
    )  # fmt: skip
    measure(plan, advance)
    assert len(there) == PACES["tiny"].rounds * len(kinds)
    for (generator,) in there:
        assert "proxy.lab.load" in generator


def test_the_number_of_threads_is_the_same_for_all() -> None:
    site = Site(folder=Path("/"), port=1, inner_port=2, files=Path("/files"), environment={})
    for kind in KINDS:
        built = kind.build(site)
        text = "\n".join([*built.files.values(), *(one.shown for one in built.services)])
        if kind.key not in {"werkzeug", "gevent"}:
            assert str(THREADS) in text
