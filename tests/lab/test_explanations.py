"""A paragraph says what the numbers say: other numbers, another paragraph."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.lab.experiments.all import EXPERIMENTS
from proxy.lab.explanations import apart, explanation
from proxy.lab.model import Experiment, Figure, Probe, Result, Verdict, from_json
from proxy.lab.sizes import PACES

TITLES = {"waitress": "Waitress", "proxyd": "proxyd", "proxyd-cache": "cached", "nginx": "nginx"}
SAMPLE = from_json(Path(__file__).with_name("sample.json").read_bytes())
KEYS = [one.key for one in EXPERIMENTS]

Rounds = tuple[float, float, float]


def fig(rounds: Rounds) -> Figure:
    return Figure(median=rounds[1], least=rounds[0], most=rounds[2], rounds=list(rounds))


def found(key: str, **stacks: dict[str, Rounds]) -> Experiment:
    """Return an experiment with figures: least, median and most of each."""
    kind = next(one for one in EXPERIMENTS if one.key == key)
    results = [
        Result(
            stack=stack.replace("_", "-"),
            outcome="measured",
            figures={name: fig(rounds) for name, rounds in figures.items()},
        )
        for stack, figures in stacks.items()
    ]
    return Experiment(
        key=key, number=kind.number, title=kind.title, question=kind.question,
        method=kind.method(PACES["tiny"]), picture=kind.picture, headline=kind.headline,
        metrics=kind.metrics, results=results,
    )  # fmt: skip


def same(value: float) -> Rounds:
    return (value, value, value)


LOW, HIGH, WIDE = (90.0, 100.0, 110.0), (900.0, 1000.0, 1100.0), (50.0, 500.0, 2000.0)


@pytest.mark.parametrize(
    ("key", "metric", "one", "other", "what"),
    [
        ("dynamic", "cpu", "proxyd", "waitress", "CPU time for each request"),
        ("dynamic", "cpu", "proxyd", "nginx", "CPU time for each request"),
        ("public", "cpu", "proxyd-cache", "proxyd", "CPU time for each request"),
        ("public", "cpu", "proxyd-cache", "waitress", "CPU time for each request"),
        ("files", "small_cpu", "proxyd", "waitress", "CPU time for a small file"),
        ("files", "large_cpu", "proxyd", "waitress", "CPU time for a large one"),
        ("files", "small_cpu", "proxyd", "nginx", "CPU time for a small file"),
        ("idle", "per_connection", "proxyd", "nginx", "memory for each"),
        ("journey", "total", "proxyd-cache", "proxyd", "time from beginning to end"),
    ],
)
def test_who_needs_less_is_said_of_whom_the_numbers_say_it(
    key: str, metric: str, one: str, other: str, what: str
) -> None:
    def text(mine: Rounds, theirs: Rounds) -> str:
        given = {one.replace("-", "_"): {metric: mine}, other: {metric: theirs}}
        return explanation(found(key, **given), TITLES)

    first, second = TITLES[one], TITLES[other]
    assert f"{first} needed less {what} than {second}: 100\N{NO-BREAK SPACE}" in text(LOW, HIGH)
    assert "a factor of 10." in text(LOW, HIGH)
    assert f"{first} needed more {what} than {second}: 1,000" in text(HIGH, LOW)
    overlapping = text(LOW, WIDE)
    assert f"In {what}, {first} and {second} cannot be told apart: 100" in overlapping
    assert not {"less", "more"} & set(overlapping.replace(".", " ").split()) or key == "journey"


def test_small_differences_have_no_factor() -> None:
    close = found("dynamic", proxyd={"cpu": same(150)}, waitress={"cpu": same(100)})
    assert "factor" not in explanation(close, TITLES)
    nothing = found("dynamic", proxyd={"cpu": same(150)}, waitress={"cpu": same(0)})
    assert "factor" not in explanation(nothing, TITLES)


@pytest.mark.parametrize(
    ("rounds", "mine", "said"),
    [(2, 140.0, False), (2, 160.0, True), (3, 140.0, False), (4, 110.0, True)],
)
def test_a_small_difference_is_believed_after_enough_rounds_only(
    rounds: int, mine: float, said: bool
) -> None:
    def taken(value: float) -> Figure:
        return Figure(median=value, least=value, most=value, rounds=[value] * rounds)

    assert apart(taken(mine), taken(100.0)) == int(said)
    assert apart(taken(100.0), taken(mine)) == -int(said)


def test_who_was_held_up_by_slow_clients_is_named() -> None:
    text = explanation(
        found(
            "slow",
            proxyd={"p99": same(10), "lost": same(0)},
            nginx={"p99": same(49), "lost": same(0)},
            waitress={"p99": same(51), "lost": same(0)},
            proxyd_cache={"p99": same(1), "lost": same(5)},
        ),
        TITLES,
    )
    assert (
        "The best 99th percentile was 10 ms; within 5 times of it stayed proxyd and nginx." in text
    )
    assert "Longer than that had to wait who came to Waitress." in text
    assert "Requests of the visitor failed with cached." in text
    turned = explanation(found("slow", waitress={"p99": same(1)}, proxyd={"p99": same(9)}), TITLES)
    assert "within 5 times of it stayed Waitress." in turned
    assert "had to wait who came to proxyd." in turned
    none = explanation(found("slow", waitress={"p99": same(9), "lost": same(2)}), TITLES)
    assert "best" not in none


def test_who_holds_idle_connections_is_named() -> None:
    text = explanation(
        found("idle", waitress={"held": same(100)}, nginx={"held": same(2000)}), TITLES
    )
    assert "The most, 2,000, were held by nginx. Fewer were held by Waitress." in text
    text = explanation(found("idle", waitress={"held": same(9)}, nginx={"held": same(9)}), TITLES)
    assert "were held by Waitress and nginx." in text
    assert "Fewer" not in text


def test_who_refuses_and_who_leaves_people_standing_is_named() -> None:
    def seen(good: float, refused: float, lost: float) -> dict[str, Rounds]:
        return {"good": same(good), "refused": same(refused), "lost": same(lost)}

    text = explanation(
        found("burst", waitress=seen(100, 0, 0), proxyd=seen(50, 50, 0), nginx=seen(50, 40, 10)),
        TITLES,
    )
    assert "Everybody was served by Waitress." in text
    assert "Whom they could not serve was told so by proxyd." in text
    assert "Visitors were left without any answer by nginx." in text


def test_who_hides_a_restart_is_named() -> None:
    text = explanation(
        found("restart", waitress={"errors": same(0)}, proxyd={"errors": same(3)}), TITLES
    )
    assert "No visitor saw an error with Waitress. Visitors saw errors with proxyd." in text


def probed(stack: str, *verdicts: Verdict) -> Result:
    probes = [Probe(key=one, title=one, sent="", answer="", verdict=one) for one in verdicts]
    return Result(stack=stack, outcome="measured", probes=probes)


def test_who_lets_nothing_through_is_named() -> None:
    experiment = replace(
        found("malformed"),
        results=[probed("waitress", "refused", "smuggled"), probed("nginx", "cleaned", "silent"),
                 probed("proxyd", "passed", "refused")],
    )  # fmt: skip
    text = explanation(experiment, TITLES)
    assert "None of them reached the application through nginx." in text
    assert "A second request was smuggled in through Waitress." in text
    assert "proxyd" not in text


def test_how_much_of_a_journey_is_the_application_is_worked_out() -> None:
    text = explanation(
        found(
            "journey",
            waitress={"total": same(200), "application": same(50)},
            proxyd={"total": same(100), "application": same(90)},
            proxyd_cache={"total": same(1)},
        ),
        TITLES,
    )
    assert (
        "The application was 25 % of the time with Waitress and 90 % of the time with proxyd."
        in text
    )
    assert "It was not asked at all, since the answer was there, with cached." in text
    alone = explanation(found("journey", proxyd={"total": same(1)}), TITLES)
    assert "The application was" not in alone


@pytest.mark.parametrize("key", KEYS)
def test_every_experiment_has_a_paragraph_also_when_nothing_was_measured(key: str) -> None:
    failed = [Result(stack=stack, outcome="failed", reason="no") for stack in TITLES]
    text = explanation(replace(found(key), results=failed), TITLES)
    assert text.endswith(".")
    # Of no stack anything is said.
    assert not any(title in text for title in TITLES.values())
    assert text == explanation(found(key), TITLES)


def test_an_experiment_of_a_later_version_has_none() -> None:
    assert explanation(replace(SAMPLE.experiments[0], key="later"), TITLES) == ""
