"""A report in the terminal: a table for each experiment, one row for each stack."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.lab.journey import PARTS
from proxy.lab.model import Experiment, Figure, Report, Result

VERDICTS = {
    "refused": "green",
    "cleaned": "green",
    "silent": "yellow",
    "passed": "red",
    "smuggled": "bold red",
}


def print_report(report: Report, console: Console) -> None:
    """Print what was found, and below it what a reader needs to doubt it."""
    titles = {stack.key: stack.title for stack in report.stacks}
    for experiment in report.experiments:
        console.print()
        console.print(f"[bold]{experiment.number}. {escape(experiment.title)}[/]")
        console.print(f"{escape(experiment.question)} [dim]{escape(experiment.method)}[/]")
        console.print(
            probes(experiment, titles) if is_probes(experiment) else table(experiment, titles)
        )
        for journey in journeys(experiment, titles):
            console.print(f"  {escape(journey)}")
        for note in notes(experiment, titles):
            console.print(f"  {escape(note)}", style="dim")
    console.print()
    machine = report.machine
    console.print(
        f"{escape(machine.cpu)}, {machine.cpus} CPUs, {machine.memory_bytes / 2**30:.0f} GiB, "
        f"{escape(machine.system)}, Python {machine.python}; {report.options.rounds} rounds, "
        f"{report.took_s:.0f} s",
        style="dim",
    )
    if report.calibration is not None:
        console.print(escape(report.calibration.conclusion), style="dim")
    for note in report.notes:
        console.print(escape(note), style="dim")


def is_probes(experiment: Experiment) -> bool:
    """Say whether an experiment is one of requests that are judged one by one."""
    return any(result.probes for result in experiment.results)


def table(experiment: Experiment, titles: dict[str, str]) -> Table:
    """Return the medians with their spread, one column for each metric."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    made.add_column("")
    for metric in experiment.metrics:
        made.add_column(f"{metric.title}{', ' * bool(metric.unit)}{metric.unit}", justify="right")
    for result in experiment.results:
        name = escape(titles[result.stack])
        if result.outcome != "measured":
            continue
        figures = [result.figures.get(metric.key) for metric in experiment.metrics]
        made.add_row(name, *(cell(figure) for figure in figures))
    return made


def probes(experiment: Experiment, titles: dict[str, str]) -> Table:
    """Return what became of each request, one column for each stack."""
    measured = [result for result in experiment.results if result.probes]
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    made.add_column("")
    for result in measured:
        made.add_column(escape(titles[result.stack]))
    for row in zip(*(result.probes for result in measured), strict=True):
        cells = (f"[{VERDICTS[probe.verdict]}]{probe.verdict}[/]" for probe in row)
        made.add_row(escape(row[0].title), *cells)
    return made


def parts(experiment: Experiment) -> list[str]:
    """Return the parts that the journeys of an experiment have, in their order."""
    found = {span.name for result in experiment.results for span in result.journey}
    return [name for name in PARTS if name in found]


def part_text(result: Result, part: str) -> str:
    """Write how many milliseconds a part of a journey took, "-" where there is none."""
    took_ms = [span.duration_ms for span in result.journey if span.name == part]
    return number(sum(took_ms)) if took_ms else "-"


def journeys(experiment: Experiment, titles: dict[str, str]) -> list[str]:
    """Return a line for each journey: its parts, in milliseconds."""
    return [
        f"{titles[result.stack]}: "
        + ", ".join(f"{span.name} {number(span.duration_ms)}" for span in result.journey)
        for result in experiment.results
        if result.journey
    ]


def notes(experiment: Experiment, titles: dict[str, str]) -> list[str]:
    """Return what is to be said of single stacks: why there is no figure, or what it means."""
    found = []
    for result in experiment.results:
        if result.outcome != "measured":
            found.append(f"{titles[result.stack]} {outcome(result)}")
        found += [f"{titles[result.stack]}: {note}" for note in result.notes]
    return [*found, *experiment.notes]


def outcome(result: Result) -> str:
    """Say what became of a stack that has no figures."""
    return f"{'was left out' if result.outcome == 'skipped' else 'failed'}: {result.reason}"


def cell(figure: Figure | None) -> str:
    """Write a median, and behind it how far the rounds were apart."""
    median, _, spread = cell_text(figure).partition(" ")
    return f"{median} [dim]{spread}[/]" if spread else median


def cell_text(figure: Figure | None) -> str:
    """Write a median and its spread without colours, "-" where there is none."""
    if figure is None:
        return "-"
    if len(figure.rounds) == 1 or figure.least == figure.most:
        return number(figure.median)
    return f"{number(figure.median)} {number(figure.least)}…{number(figure.most)}"


def number(value: float) -> str:
    """Write a number with as many digits as are worth reading."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2}f}".rstrip("0").rstrip(".")
