"""A report as one HTML file: the article that its reader was looking for, with its own numbers.

Plot draws the pictures in the reader's browser, at the width and in the colours of the moment;
everything that it needs is in the file, and a Content-Security-Policy keeps the page from asking
anybody for more. Below each picture is a table of its numbers, which needs no script.
"""

import json
from importlib.resources import files
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from proxy.lab.explanations import enumerated, explanation, said, through
from proxy.lab.journey import PARTS
from proxy.lab.load_job import GOOD
from proxy.lab.model import Experiment, Metric, Report
from proxy.lab.table import cell_text, is_probes, notes, number, part_text, parts

FILES = "page_files"


def render_html(report: Report) -> str:
    """Write a report as a page that needs nothing but itself."""
    environment = Environment(
        loader=PackageLoader("proxy.lab", FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        number=number, cell=cell_text, is_probes=is_probes, part_of=PARTS, part_text=part_text
    )
    titles = {stack.key: stack.title for stack in report.stacks}
    return environment.get_template("page.html").render(
        report=report,
        titles=titles,
        experiments=[shown(experiment, titles) for experiment in report.experiments],
        style=asset("page.css"),
        scripts=[asset(name) for name in ("d3.min.js", "plot.min.js", "page.js")],
        data=embedded(report),
    )


def asset(name: str) -> Markup:
    """Return a file of this package that goes into the page as it is."""
    return Markup(files("proxy.lab").joinpath(FILES, name).read_text("utf-8"))  # noqa: S704


def embedded(report: Report) -> Markup:
    """Return the report as JSON that cannot end the script element that it is in."""
    text = json.dumps(msgspec.to_builtins(report), ensure_ascii=True)
    return Markup(text.replace("<", r"\u003c"))  # noqa: S704 - no "<" is left in it


def shown(experiment: Experiment, titles: dict[str, str]) -> dict[str, Any]:
    """Return an experiment with what the page says and draws of it."""
    return {
        "it": experiment,
        "measured": [result for result in experiment.results if result.outcome == "measured"],
        "explanation": explanation(experiment, titles),
        "finding": finding(experiment, titles),
        "pictures": pictures(experiment),
        "parts": parts(experiment),
        "notes": notes(experiment, titles),
    }


def pictures(experiment: Experiment) -> list[tuple[str, Metric]]:
    """Return the pictures of an experiment: its headline's, then bars of what goes with it."""
    if is_probes(experiment):
        return []
    headline = metric_of(experiment, experiment.headline)
    more = [
        metric
        for metric in experiment.metrics
        if metric.key.endswith(("rate", "large_cpu", "memory", "per_connection", "gap"))
        and metric.key != headline.key
        and any(metric.key in result.figures for result in experiment.results)
    ]
    return [(experiment.picture, headline), *(("bars", metric) for metric in more)]


def metric_of(experiment: Experiment, key: str) -> Metric:
    """Return a metric of an experiment by its key."""
    return next(metric for metric in experiment.metrics if metric.key == key)


def finding(experiment: Experiment, titles: dict[str, str]) -> str:
    """Say in short what was found, "" where there is nothing to compare."""
    if is_probes(experiment):
        return verdicts(experiment, titles)
    return " ".join(
        part for part in (extremes(experiment, titles), unanswered(experiment, titles)) if part
    )


def extremes(experiment: Experiment, titles: dict[str, str]) -> str:
    """Name the best and the worst, with their numbers."""
    metric = metric_of(experiment, experiment.headline)
    found = [
        (result.figures[metric.key].median, titles[result.stack])
        for result in experiment.results
        if metric.key in result.figures
    ]
    if not found or not metric.better:
        return ""
    values = sorted((value for value, _ in found), reverse=metric.better == "more")
    best, worst = values[0], values[-1]
    if best == worst:
        return f"{metric.title}: {quantity(best, metric)}, the same with every stack."
    return (
        f"{metric.title}: from {quantity(best, metric)} ({named(best, found)}) "
        f"to {quantity(worst, metric)} ({named(worst, found)})."
    )


def unanswered(experiment: Experiment, titles: dict[str, str]) -> str:
    """Name the stacks of which nobody got an answer."""
    silent = [one for one in experiment.results if one.requests and not one.answers.get(GOOD)]
    return said(silent, titles, "Nobody was answered by {}.")


def named(value: float, found: list[tuple[float, str]]) -> str:
    """Name the stacks that have a value."""
    return enumerated([title for one, title in found if one == value])


def quantity(value: float, metric: Metric) -> str:
    """Write a number with its unit."""
    return f"{number(value)}\N{NO-BREAK SPACE}{metric.unit}".rstrip()


def verdicts(experiment: Experiment, titles: dict[str, str]) -> str:
    """Say how many of the requests each stack let through."""
    let = [
        (through(result), titles[result.stack]) for result in experiment.results if result.probes
    ]
    total = max(len(result.probes) for result in experiment.results)
    told = "; ".join(f"{title} {count}" for count, title in let)
    return f"Of {total} such requests, these many reached the application unchanged: {told}."
