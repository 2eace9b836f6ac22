"""From the observations of several rounds to one result: medians with their spread."""

from collections import Counter
from statistics import median

from proxy.lab.model import Distribution, Figure, Result
from proxy.lab.visit import Observation, percentile

PERCENTILES = (50, 75, 90, 95, 99, 99.9, 100)
SAMPLES_LIMIT = 2000


def summed(stack: str, rounds: list[Observation]) -> Result:
    """Return the result of a stack; of failed rounds only the reason and what was counted."""
    answers: Counter[str] = Counter()
    for one in rounds:
        answers.update(one.answers)
    lies = [one.lie for one in rounds if one.lie]
    silences = [one.silence for one in rounds if one.silence]
    failures = lies or (silences if len(silences) == len(rounds) else [])
    notes = list(dict.fromkeys(note for one in rounds for note in one.notes))
    if silences and not failures:
        notes.append(f"In {len(silences)} of {len(rounds)} rounds there was {silences[0]}.")
    latest = rounds[-1]
    return Result(
        stack=stack,
        outcome="failed" if failures else "measured",
        reason=failures[0] if failures else "",
        figures={} if failures else figures(rounds),
        requests=sum(answers.values()),
        errors=sum(one.errors for one in rounds),
        answers=dict(answers.most_common()),
        distribution=None if failures else distribution(rounds),
        timeline=latest.timeline,
        probes=latest.probes,
        processes=latest.processes,
        journey=[] if failures else latest.journey,
        generator_cpu=max(one.generator_cpu for one in rounds),
        notes=notes,
    )


def figures(rounds: list[Observation]) -> dict[str, Figure]:
    """Return each figure of the rounds with its median and spread."""
    names = dict.fromkeys(name for one in rounds for name in one.figures)
    return {
        name: figure([one.figures[name] for one in rounds if name in one.figures]) for name in names
    }


def figure(values: list[float]) -> Figure:
    """Return values with their median and spread."""
    return Figure(median=median(values), least=min(values), most=max(values), rounds=values)


def distribution(rounds: list[Observation]) -> Distribution | None:
    """Return the latencies of all rounds together; None when there are none."""
    ordered = sorted(value for one in rounds for value in one.latencies_ms)
    if not ordered:
        return None
    count = len(ordered)
    kept = min(count, SAMPLES_LIMIT)
    # From the least to the most, both among them.
    places = [round(place * (count - 1) / max(1, kept - 1)) for place in range(kept)]
    return Distribution(
        percentiles=[(percent, round(percentile(ordered, percent), 3)) for percent in PERCENTILES],
        samples=[round(ordered[place], 3) for place in places],
        count=count,
    )
