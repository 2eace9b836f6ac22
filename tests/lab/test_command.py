"""What `proxyd lab` refuses before it measures anything, and what it shows."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from proxy.errors import LabError
from proxy.lab import command
from proxy.lab.catalog import KINDS
from proxy.lab.experiments.all import EXPERIMENTS
from proxy.lab.model import from_json
from proxy.lab.run import Plan
from proxy.lab.sizes import PACES
from proxy.lab.table import number, print_report

SAMPLE = Path(__file__).with_name("sample.json")


def test_a_plan_has_everything_unless_it_is_told_less(tmp_path: Path) -> None:
    plan = command.planned("quick", "own", "/", "", "")
    assert [kind.key for kind in plan.kinds] == [kind.key for kind in KINDS]
    assert [one.number for one in plan.experiments] == list(range(1, len(EXPERIMENTS) + 1))
    less = command.planned("full", "shop:app", "/news", "waitress, proxyd", "files")
    assert [kind.key for kind in less.kinds] == ["waitress", "proxyd"]
    assert (less.target, less.page, less.sizes.rounds) == ("shop:app", "/news", 5)


def everything(pace: str) -> Plan:
    """Return a plan with every stack, as if all were installed here."""
    plan = command.planned(pace, "own", "/", "", "")
    return replace(plan, kinds=[replace(kind, missing=lambda: "") for kind in plan.kinds])


def test_quick_is_done_in_two_minutes_with_every_stack_installed() -> None:
    plan = everything("quick")
    assert plan.installed() == len(KINDS)
    assert plan.takes_s() <= 120
    told = "8 stacks, 9 experiments, 2 rounds: about 2 minutes, and longer beside other work"
    assert command.announced(plan) == told


@pytest.mark.parametrize("pace", ["quick", "full"])
def test_crowds_are_never_smaller_than_the_questions_are_about(pace: str) -> None:
    sizes = PACES[pace]
    assert (sizes.slow_clients, sizes.idle_clients) == (200, 2000)
    assert sizes.rounds > 1
    assert sizes.warm_up_s > 0


def test_what_is_announced_follows_what_is_asked_for() -> None:
    assert "5 rounds: about 26 minutes" in command.announced(everything("full"))
    little = command.planned("quick", "own", "/", "waitress", "public")
    assert "1 stacks, 1 experiments, 2 rounds: about 10 s, " in command.announced(little)
    nothing = replace(little, kinds=[replace(little.kinds[0], missing=lambda: "no")])
    assert nothing.takes_s() < little.takes_s()


@pytest.mark.parametrize("pace", PACES)
def test_every_experiment_is_due_and_what_needs_a_fresh_stack_comes_after_a_start(
    pace: str,
) -> None:
    plan = everything(pace)
    rounds = [[one.key for one in plan.due(number)] for number in range(plan.sizes.rounds)]
    assert plan.steps() == len(KINDS) * sum(map(len, rounds))
    assert set().union(*rounds) == {one.key for one in EXPERIMENTS}
    assert all({"dynamic", "public", "files"} <= set(keys) for keys in rounds)
    # Slow clients and a burst leave memory behind, which would hide what idle connections need.
    assert {"slow", "burst"} <= set(rounds[0])
    assert "idle" not in rounds[0]
    assert "idle" in rounds[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quick", "", "/", "apache", ""), "no stack 'apache'; there are: werkzeug, gevent"),
        (("quick", "", "/", "", "speed"), "no experiment 'speed'; there are: dynamic, public"),
        (("quick", "", "news", "", ""), "'news' is no path"),
    ],
)
def test_a_name_that_is_none_is_told_with_those_that_are(
    arguments: tuple[str, str, str, str, str], message: str
) -> None:
    with pytest.raises(LabError, match=message):
        command.planned(*arguments)


def test_the_demo_is_measured_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.demo() == ""
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "wsgi.py").touch()
    assert command.demo() == "backend.wsgi:app"


def test_psutil_is_named_when_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    command.require_libraries()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(LabError, match=r"pip install 'proxyd\[lab\]'"):
        command.require_libraries()


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no folder"):
        command.check_writable(tmp_path / "none" / "report.json")
    with pytest.raises(LabError, match="Is a directory"):
        command.write(tmp_path, b"")


def test_the_table_has_medians_verdicts_and_reasons() -> None:
    out = StringIO()
    print_report(from_json(SAMPLE.read_bytes()), Console(file=out, width=200))
    text = out.getvalue()
    assert "1. A page that is made for each visitor" in text
    assert "CPU time per request, µs" in text
    assert "1,400 1,358…1,456" in text
    assert "nginx before Waitress was left out: nginx is not installed" in text
    assert "cache on failed: the body is not the one" in text
    assert "refused" in text
    assert "never" in text or "no stack came near" in text
    assert "cache on: connecting 0.07, on the way 0.6, accept 0.03, cache 0.02" in text


@pytest.mark.parametrize(
    ("value", "written"),
    [(1234.5, "1,234"), (100.0, "100"), (60.0, "60"), (12.34, "12.3"), (1.5, "1.5"), (0.0, "0")],
)
def test_numbers_have_as_many_digits_as_are_worth_reading(value: float, written: str) -> None:
    assert number(value) == written
