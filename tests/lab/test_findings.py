"""From what is seen to what is said: lies, percentiles, medians, gaps and verdicts."""

import os
import time
from collections import Counter
from dataclasses import replace

import pytest

from proxy.lab.calibrate import conclusion
from proxy.lab.experiments.malformed import MALFORMED, escaped, verdict
from proxy.lab.experiments.restart import gap_s, timeline
from proxy.lab.load_job import CrowdTold, Told
from proxy.lab.load_job import Visit as Timed
from proxy.lab.machine import foreign_s
from proxy.lab.model import Calibration, Experiment, Mark, Result
from proxy.lab.run import disturbed
from proxy.lab.summing import SAMPLES_LIMIT, distribution, figure, summed
from proxy.lab.usage import named
from proxy.lab.visit import Observation, latencies, lies, percentile, visitor


@pytest.mark.parametrize(
    ("answers", "any_status", "failed"),
    [
        ({"good": 100}, False, False),
        ({"good": 99, "wrong body": 1}, False, True),
        ({"good": 99, "wrong body": 1}, True, True),
        ({"good": 99, "500": 1}, False, True),
        ({"good": 99, "503": 1}, True, False),
        ({"good": 90, "timed out": 5, "refused": 3, "broken off": 2}, False, False),
    ],
)
def test_a_stack_that_lies_has_failed(
    answers: dict[str, int], any_status: bool, failed: bool
) -> None:
    seen = Observation(answers=Counter(answers))
    lies(seen, any_status=any_status)
    assert bool(seen.lie) == failed


def test_a_failed_round_leaves_no_figures_and_says_why() -> None:
    good = Observation(figures={"rate": 9.0}, answers=Counter(good=5), latencies_ms=[1.0])
    bad = Observation(figures={"rate": 99.0}, answers=Counter({"wrong body": 5}))
    lies(bad)
    result = summed("fast", [good, bad])
    assert result.outcome == "failed"
    assert result.figures == {}
    assert result.distribution is None
    assert (result.requests, result.errors) == (10, 5)
    assert result.reason.startswith("wrong answers: 5 times wrong body of 5")


def test_figures_are_medians_with_their_spread() -> None:
    rounds = [Observation(figures={"rate": rate}) for rate in (5.0, 1.0, 3.0)]
    assert summed("x", rounds).figures == {"rate": figure([5.0, 1.0, 3.0])}
    assert figure([5.0, 1.0, 3.0]).median == 3.0
    assert (figure([5.0, 1.0, 3.0]).least, figure([5.0, 1.0, 3.0]).most) == (1.0, 5.0)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1.0), (50, 50.0), (99, 99.0), (99.9, 100.0), (100, 100.0)]
)
def test_a_percentile_is_the_least_value_that_so_many_are_not_above(
    percent: float, expected: float
) -> None:
    assert percentile([float(n) for n in range(1, 101)], percent) == expected


def test_samples_are_few_and_draw_the_same_curve() -> None:
    many = Observation(latencies_ms=[float(n) for n in range(10_000)])
    found = distribution([many])
    assert found is not None
    assert (len(found.samples), found.count) == (SAMPLES_LIMIT, 10_000)
    assert (found.samples[0], found.samples[-1]) == (0.0, 9_999.0)
    assert distribution([Observation()]) is None
    one = distribution([Observation(latencies_ms=[7.0])])
    assert one is not None
    assert one.samples == [7.0]


def test_what_was_given_up_counts_with_the_time_that_it_waited() -> None:
    visits = [Timed(0.0, 1.0, "good"), Timed(0.1, 900.0, "timed out"), Timed(0.2, 2.0, "503")]
    assert latencies(visits) == [1.0, 900.0]


def test_a_visitor_without_one_right_answer_is_a_failure() -> None:
    crowd = CrowdTold(answers={"timed out": 3}, visits=[Timed(0.0, 900.0, "timed out")])
    seen = Observation()
    visitor(seen, Told(crowds=[crowd], took_s=1.0, cpu_s=0.1), 0)
    assert seen.silence == "no right answer at all: 3 times timed out"
    assert seen.errors == 3


def test_silence_is_a_failure_when_it_lasts_through_all_rounds() -> None:
    quiet = Observation(silence="no right answer at all")
    good = Observation(figures={"rate": 9.0})
    assert summed("x", [quiet, quiet]).outcome == "failed"
    result = summed("x", [quiet, good])
    assert result.outcome == "measured"
    assert result.notes == ["In 1 of 2 rounds there was no right answer at all."]


VISITS = [
    Timed(0.0, 10.0, "good"),
    Timed(0.05, 30.0, "good"),
    Timed(0.15, 1.0, "refused"),
    Timed(0.35, 100.0, "good"),
]


def test_the_gap_is_the_longest_time_without_a_good_answer() -> None:
    assert gap_s(VISITS, 0.5) == pytest.approx(0.45 - 0.08)
    assert gap_s([], 0.5) == 0.5


def test_a_timeline_has_every_moment_also_the_empty_ones() -> None:
    found = timeline(VISITS, [Mark(at_s=0.1, text="killed")])
    assert [(one.good, one.errors) for one in found.moments] == [(2, 0), (0, 1), (0, 0), (1, 0)]
    assert (found.moments[0].median_ms, found.moments[0].worst_ms) == (10.0, 30.0)
    assert found.moments[1].worst_ms == 0.0
    assert timeline([], []).moments == []


@pytest.mark.parametrize(
    ("names", "status", "expected"),
    [
        ([], "HTTP/1.1 400 Bad Request", "refused"),
        ([], "HTTP/1.1 502 Bad Gateway", "silent"),
        ([], "", "silent"),
        (["cl-te"], "HTTP/1.1 200 OK", "passed"),
        (["cl-te", "hidden-cl-te"], "HTTP/1.1 200 OK", "smuggled"),
        (["hidden-cl-te"], "", "smuggled"),
        (["another"], "HTTP/1.1 400 Bad Request", "refused"),
    ],
)
def test_a_verdict_is_by_what_the_application_saw(
    names: list[str], status: str, expected: str
) -> None:
    assert verdict(MALFORMED[0], [{"name": name} for name in names], status) == expected


def test_a_forged_address_that_is_gone_is_cleaned() -> None:
    forged = next(one for one in MALFORMED if one.harm)
    note = {"name": "forged", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}
    assert verdict(forged, [note], "HTTP/1.1 200 OK") == "cleaned"
    note["HTTP_X_FORWARDED_FOR"] = f"{forged.harm}, 127.0.0.1"
    assert verdict(forged, [note], "HTTP/1.1 200 OK") == "passed"


def test_sent_bytes_can_be_read() -> None:
    assert escaped(b"GET / HTTP/1.1\r\nX: a\0b\r\n") == "GET / HTTP/1.1\\r\\n\nX: a\\x00b\\r\\n\n"


def test_the_lab_says_where_the_generator_was_the_bottleneck() -> None:
    calibration = Calibration(rate=2e4, generator_us=30, trusted_cpu=0.85, conclusion="")
    result = Result(stack="nginx", outcome="measured", generator_cpu=0.2)
    experiment = Experiment(
        key="x", number=1, title="Files", question="", method="", picture="bars", headline="cpu",
        metrics=[], results=[result],
    )  # fmt: skip
    assert "never the bottleneck" in conclusion(calibration, [experiment])
    busy = replace(experiment, results=[replace(result, generator_cpu=0.95)])
    assert "at its own limit with nginx in “Files”" in conclusion(calibration, [busy])


@pytest.mark.parametrize(
    ("service", "command", "is_root", "expected"),
    [
        ("waitress", "python -m waitress", True, ("Waitress", "Waitress")),
        ("proxyd", "python -c …", True, ("proxyd master", "proxyd")),
        ("proxyd", "python serve_wsgi.py", False, ("Waitress", "Waitress")),
        ("proxyd", "python -P -m proxy.process.worker", False, ("proxyd worker", "proxyd")),
        ("proxyd", "", False, ("proxyd helper", "proxyd")),
        ("nginx", "nginx: master process nginx", True, ("nginx master", "nginx")),
        ("nginx", "nginx: worker process", False, ("nginx worker", "nginx")),
        ("gunicorn", "python", False, ("gunicorn worker", "gunicorn")),
    ],
)
def test_a_process_has_a_name_and_a_layer(
    service: str, command: str, is_root: bool, expected: tuple[str, str]
) -> None:
    name, layer = named(service, command, is_root=is_root)
    assert (name.partition(" process")[0], layer) == expected


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (-0.01, "used 0% of the machine's CPU time meanwhile: it was quiet."),
        (0.05, "used 5% of the machine's CPU time meanwhile: it was quiet."),
        (0.4, "used 40% of the machine's CPU time meanwhile: measure again"),
    ],
)
def test_a_report_says_how_much_other_programs_were_in_the_way(share: float, told: str) -> None:
    assert told in disturbed(share)


def test_what_this_process_computes_is_not_of_others() -> None:
    before_s = foreign_s()
    began_s = time.process_time()
    while time.process_time() - began_s < 0.3:
        pass
    # As precise as the clocks of the kernel; others may have used all of the other processors.
    most_s = 0.3 * (os.cpu_count() or 1)
    assert -0.1 <= foreign_s() - before_s <= 10 * most_s
