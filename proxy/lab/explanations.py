"""The paragraph beside each picture: what is asked, in general, and what these numbers say to it.

Pure. What a paragraph claims of a stack is worked out from its figures: that one needs less than
another is said only where no round of the one reached one of the other.
"""

from collections.abc import Callable
from typing import Final

from proxy.lab.model import Experiment, Figure, Result
from proxy.lab.table import number

ALONE, FRONT, CACHED, OTHER_FRONT = "waitress", "proxyd", "proxyd-cache", "nginx"
# Whose visitor waits so many times as long as the best one's is not free of the slow clients.
HELD_UP_TIMES: Final = 5.0
# With fewer rounds than these a difference is believed from this factor on.
ENOUGH_ROUNDS: Final = 4
CLEAR_TIMES: Final = 1.5

Titles = dict[str, str]


def explanation(experiment: Experiment, titles: Titles) -> str:
    """Return the paragraph of an experiment, "" of one that is not known here."""
    write = PARAGRAPHS.get(experiment.key)
    return "" if write is None else " ".join(part for part in write(experiment, titles) if part)


def dynamic(experiment: Experiment, titles: Titles) -> list[str]:
    """The price of a layer."""
    return [
        "Nothing can be saved here: the application makes every page. So this is the price of a "
        "layer, and what a web server in front has to earn back in the experiments below.",
        compared(experiment, titles, "cpu", FRONT, ALONE, "CPU time for each request"),
        compared(experiment, titles, "cpu", FRONT, OTHER_FRONT, "CPU time for each request"),
    ]


def public(experiment: Experiment, titles: Titles) -> list[str]:
    """What a cache saves."""
    return [
        "A page that is the same for everybody need be made only once, if somebody keeps it.",
        compared(experiment, titles, "cpu", CACHED, FRONT, "CPU time for each request"),
        compared(experiment, titles, "cpu", CACHED, ALONE, "CPU time for each request"),
    ]


def files(experiment: Experiment, titles: Titles) -> list[str]:
    """What a web server takes off the application."""
    small, large = "CPU time for a small file", "CPU time for a large one"
    return [
        "Style sheets, scripts and pictures are most of what a site sends. Where the application "
        "sends them, each occupies a thread that a page could have had.",
        compared(experiment, titles, "small_cpu", FRONT, ALONE, small),
        compared(experiment, titles, "large_cpu", FRONT, ALONE, large),
        compared(experiment, titles, "small_cpu", FRONT, OTHER_FRONT, small),
    ]


def slow(experiment: Experiment, titles: Titles) -> list[str]:
    """Who keeps the visitor free of what others do."""
    lost = [one for one in measured(experiment, "p99") if median(one, "lost") > 0]
    served = [one for one in measured(experiment, "p99") if one not in lost]
    best_ms = min((median(one, "p99") for one in served), default=0.0)
    late = [one for one in served if median(one, "p99") > HELD_UP_TIMES * best_ms]
    free = [one for one in served if one not in late]
    return [
        "A telephone in a tunnel holds what it is served by: a thread, or a place in a server that "
        "takes the waiting upon itself.",
        said(
            free,
            titles,
            f"The best 99th percentile was {number(best_ms)} ms; within "
            f"{HELD_UP_TIMES:g} times of it stayed {{}}.",
        ),
        said(late, titles, "Longer than that had to wait who came to {}."),
        said(lost, titles, "Requests of the visitor failed with {}."),
    ]


def idle(experiment: Experiment, titles: Titles) -> list[str]:
    """Who holds them all."""
    found = measured(experiment, "held")
    most = max((median(one, "held") for one in found), default=0.0)
    all_held = [one for one in found if median(one, "held") == most]
    fewer = [one for one in found if one not in all_held]
    return [
        "Browsers keep connections open, just in case. Each costs memory and a place.",
        said(all_held, titles, f"The most, {number(most)}, were held by {{}}."),
        said(fewer, titles, "Fewer were held by {}."),
        compared(experiment, titles, "per_connection", FRONT, OTHER_FRONT, "memory for each"),
    ]


def burst(experiment: Experiment, titles: Titles) -> list[str]:
    """Who answers, who refuses, who leaves people standing."""
    found = measured(experiment, "good")
    lost = [one for one in found if median(one, "lost") > 0]
    rest = [one for one in found if one not in lost]
    refusing = [one for one in rest if median(one, "refused") > 0]
    return [
        "More visitors than can be served is where a site shows its manners: to answer as many as "
        "it can in time and tell the others at once is better than to let all of them wait.",
        said([one for one in rest if one not in refusing], titles, "Everybody was served by {}."),
        said(refusing, titles, "Whom they could not serve was told so by {}."),
        said(lost, titles, "Visitors were left without any answer by {}."),
    ]


def restart(experiment: Experiment, titles: Titles) -> list[str]:
    """Who hides it from the visitor."""
    found = measured(experiment, "errors")
    hidden = [one for one in found if median(one, "errors") == 0]
    return [
        "Processes die, and every new version is a restart. A server in front can hold the "
        "visitors for the moment that it takes, if it is made to.",
        said(hidden, titles, "No visitor saw an error with {}."),
        said([one for one in found if one not in hidden], titles, "Visitors saw errors with {}."),
    ]


def malformed(experiment: Experiment, titles: Titles) -> list[str]:
    """Who guesses."""
    found = [one for one in experiment.results if one.probes]
    clean = [one for one in found if not through(one)]
    smuggling = [one for one in found if any(each.verdict == "smuggled" for each in one.probes)]
    return [
        "Attacks begin with requests that two programs read differently. The first to see them "
        "should refuse what is not clear, so that the application never has to guess.",
        said(clean, titles, "None of them reached the application through {}."),
        said(smuggling, titles, "A second request was smuggled in through {}."),
    ]


def journey(experiment: Experiment, titles: Titles) -> list[str]:
    """How much of it is the application."""
    told = []
    for stack in (ALONE, FRONT):
        result = of(experiment, stack)
        if result is not None and {"application", "total"} <= result.figures.keys():
            share = 100 * median(result, "application") / median(result, "total")
            told.append(f"{number(share)} % of the time with {titles[stack]}")
    sentence = f"The application was {' and '.join(told)}." if told else ""
    untouched = [one for one in measured(experiment, "total") if "application" not in one.figures]
    return [
        "The application's own part has two colours: its thread computing, and its thread waiting "
        "for Python's lock, which only one of them has at a time, or for a core or for its data. "
        "What a server does not tell is drawn as one part, with the queue that is in it.",
        sentence,
        said(untouched, titles, "It was not asked at all, since the answer was there, with {}."),
        compared(experiment, titles, "total", CACHED, FRONT, "time from beginning to end"),
    ]


PARAGRAPHS: Final[dict[str, Callable[[Experiment, Titles], list[str]]]] = {
    "dynamic": dynamic,
    "public": public,
    "files": files,
    "slow": slow,
    "idle": idle,
    "burst": burst,
    "restart": restart,
    "malformed": malformed,
    "journey": journey,
}


def of(experiment: Experiment, stack: str) -> Result | None:
    """Return the result of a stack, None when it has not been measured."""
    found = (one for one in experiment.results if one.stack == stack)
    return next((one for one in found if one.outcome == "measured"), None)


def measured(experiment: Experiment, key: str) -> list[Result]:
    """Return the results that have a figure."""
    return [one for one in experiment.results if key in one.figures]


def median(result: Result, key: str) -> float:
    """Return a figure of a stack, 0 where there is none."""
    return result.figures[key].median if key in result.figures else 0.0


def through(result: Result) -> int:
    """Count the requests that reached the application as they were sent, or as two."""
    return sum(probe.verdict in ("passed", "smuggled") for probe in result.probes)


def said(results: list[Result], titles: Titles, sentence: str) -> str:
    """Write a sentence about these stacks, "" when it is about none."""
    return sentence.format(enumerated([titles[one.stack] for one in results])) if results else ""


def enumerated(names: list[str]) -> str:
    """Write names as a sentence has them: commas between, "and" before the last."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def compared(
    experiment: Experiment, titles: Titles, key: str, one: str, other: str, what: str
) -> str:
    """Say whether a stack needs less of a metric than another, "" when not both were measured."""
    first, second = of(experiment, one), of(experiment, other)
    if first is None or second is None:
        return ""
    if key not in first.figures or key not in second.figures:
        return ""
    unit = next(metric.unit for metric in experiment.metrics if metric.key == key)
    mine, theirs = first.figures[key], second.figures[key]
    numbers = f"{with_unit(mine, unit)} against {with_unit(theirs, unit)}"
    order = apart(mine, theirs)
    if not order:
        return f"In {what}, {titles[one]} and {titles[other]} cannot be told apart: {numbers}."
    verb = "less" if order < 0 else "more"
    factor = times(mine, theirs)
    return f"{titles[one]} needed {verb} {what} than {titles[other]}: {numbers}{factor}."


def apart(mine: Figure, theirs: Figure) -> int:
    """Return -1 or 1 when all rounds of one are below or above all of the other, else 0.

    Of few rounds that happens by chance: two and two are apart in a third of all cases, four and
    four in one of 35. Few have to be clearly apart.
    """
    few = min(len(mine.rounds), len(theirs.rounds)) < ENOUGH_ROUNDS
    clear = CLEAR_TIMES if few else 1.0
    if mine.most < theirs.least and mine.median * clear <= theirs.median:
        return -1
    return 1 if mine.least > theirs.most and mine.median >= theirs.median * clear else 0


def times(mine: Figure, theirs: Figure) -> str:
    """Write by how much they differ, where that is at least twice."""
    small, large = sorted((mine.median, theirs.median))
    if small <= 0 or large < 2 * small:
        return ""
    return f", a factor of {number(large / small)}"


def with_unit(figure: Figure, unit: str) -> str:
    """Write a median with its unit."""
    return f"{number(figure.median)}\N{NO-BREAK SPACE}{unit}".rstrip()
