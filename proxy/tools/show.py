"""An explanation on the terminal, for a person; and as plain values, for programs."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from proxy.tools.findings import Explanation, Fact, Step, Tone

_STYLES: dict[Tone, str] = {
    "plain": "",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "quiet": "dim",
}
_MARKS: dict[Tone, str] = {"plain": " ", "good": "✓", "bad": "✗", "warn": "!", "quiet": " "}
# In a pipe or a file nobody says how wide it is.
PLAIN_WIDTH = 120


def console() -> Console:
    """Return standard output."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def show(told: Explanation) -> None:
    """Print an explanation: a step after the other, the sources at the right, the outcome last."""
    out = console()
    out.print()
    out.print(Text(told.request, style="bold"), Text(f"by {told.configuration}", style="dim"))
    out.print()
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(width=1)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(justify="right", style="dim", overflow="fold", max_width=44)
    for step in told.steps:
        add(table, step)
    out.print(table)
    if told.outcome is not None:
        out.print(outcome(told.outcome))


def add(table: Table, step: Step) -> None:
    """Add the rows of a step; the marks say without colours what these say."""
    style = _STYLES[step.tone]
    mark = Text(_MARKS[step.tone], style=style)
    table.add_row(step.title, mark, Text(step.verdict, style), Text(step.source))
    for fact in step.facts:
        style = _STYLES[fact.tone]
        mark = Text(_MARKS[fact.tone], style=style)
        table.add_row("", mark, Padding(Text(fact.text, style), (0, 0, 0, 2)), Text(fact.source))
    table.add_row("", "", "", "")


def outcome(fact: Fact) -> Panel:
    """Return the last word, framed."""
    return Panel(
        Text(fact.text, style=f"bold {_STYLES[fact.tone]}"),
        title="What would happen now",
        title_align="left",
        subtitle=Text(fact.source) if fact.source else None,
        subtitle_align="right",
        border_style=_STYLES[fact.tone] or "none",
    )


def plain(told: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON has it."""
    return asdict(told)
