"""`proxyd lab`: asks what is to be measured, shows how far it is, and writes the report."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.errors import LabError
from proxy.lab.interrupts import ends_orderly

if TYPE_CHECKING:
    from proxy.lab.model import Report
    from proxy.lab.run import Plan

FIGURES = Path("proxyd-lab.json")
PAGE = Path("proxyd-lab.html")
DEMO = "backend.wsgi:app"
DEMO_NEEDS = ("flask", "sqlalchemy")
OWN = "own"
# Up to here a time is told in seconds.
FEW_S = 100
PACKAGE = "proxyd[lab]"


def lab(  # noqa: PLR0913, PLR0917 - typer makes an option of each
    quick: Annotated[
        bool, typer.Option("--quick/--full", help="About two minutes, or as long as it needs.")
    ] = True,
    app: Annotated[
        str,
        typer.Option(
            "--app",
            metavar="MODULE:APP",
            help='The WSGI application; by default the demo where it is, else "own": the lab\'s.',
        ),
    ] = "",
    page: Annotated[
        str, typer.Option("--page", metavar="PATH", help="The page of it that is asked for.")
    ] = "/",
    stacks: Annotated[
        str, typer.Option("--stacks", metavar="NAMES", help="Of these alone, with commas between.")
    ] = "",
    only: Annotated[
        str, typer.Option("--only", metavar="NAMES", help="These experiments alone.")
    ] = "",
    json_file: Annotated[
        Path, typer.Option("--json", metavar="FILE", help="Where the figures go.")
    ] = FIGURES,
    html_file: Annotated[
        Path, typer.Option("--html", metavar="FILE", help="Where the report for reading goes.")
    ] = PAGE,
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
) -> None:
    """Measure on this machine what each layer in front of an application adds."""
    require_libraries()
    from rich.console import Console

    from proxy.lab.model import to_json
    from proxy.lab.page import render_html
    from proxy.lab.table import print_report

    plan = planned("tiny" if tiny else "quick" if quick else "full", app, page, stacks, only)
    for file in (json_file, html_file):
        check_writable(file)
    console = Console()
    console.print(announced(plan), markup=False)
    with ends_orderly() as check:
        report = with_progress(plan, check)
    print_report(report, console)
    write(json_file, to_json(report))
    write(html_file, render_html(report).encode())
    console.print(f"\nThe report, with pictures: {html_file}", markup=False)
    console.print(f"All figures, and the exact configurations: {json_file}", markup=False)


def require_libraries() -> None:
    """Raise LabError when the extra is not installed, which measures and shows."""
    for name, use in (("psutil", "reads what processes use with"), ("jinja2", "writes with")):
        if importlib.util.find_spec(name) is None:
            raise LabError(f"the lab {use} {name}, which is not installed: pip install '{PACKAGE}'")


def planned(pace: str, target: str, page: str, stacks: str, only: str) -> "Plan":
    """Make a plan of what the command line says. Raises LabError for a name that is none."""
    from proxy.lab.catalog import KINDS
    from proxy.lab.experiments.all import EXPERIMENTS
    from proxy.lab.run import Plan
    from proxy.lab.sizes import PACES

    keys = chosen("stack", stacks, [kind.key for kind in KINDS])
    names = chosen("experiment", only, [one.key for one in EXPERIMENTS])
    if not page.startswith("/"):
        raise LabError(f"the page {page!r} is no path: it begins with a slash, such as /news")
    return Plan(
        pace=pace,
        sizes=PACES[pace],
        kinds=[kind for kind in KINDS if kind.key in keys],
        experiments=[one for one in EXPERIMENTS if one.key in names],
        target="" if target == OWN else target or demo(),
        page=page,
    )


def chosen(what: str, text: str, known: Sequence[str]) -> Sequence[str]:
    """Return the names in a list with commas, all when it is empty. Raises LabError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise LabError(f"there is no {what} {name!r}; there are: {', '.join(known)}")
    return names or known


def announced(plan: "Plan") -> str:
    """Say what will be done, and about how long that takes."""
    takes_s = plan.takes_s()
    time = (
        f"{takes_s / 60:.0f} minutes" if takes_s > FEW_S else f"{max(10, round(takes_s, -1)):.0f} s"
    )
    return (
        f"{plan.installed()} stacks, {len(plan.experiments)} experiments, "
        f"{plan.sizes.rounds} rounds: about {time}, and longer beside other work"
    )


def demo() -> str:
    """Return the demo where this folder has it and what it needs is installed, else ""."""
    there = Path("backend/wsgi.py").is_file() and all(map(importlib.util.find_spec, DEMO_NEEDS))
    return DEMO if there else ""


def with_progress(plan: "Plan", check: Callable[[], None]) -> "Report":
    """Run the plan under a bar that says what is being done; `check` is called before each step."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from proxy.lab.run import measure

    columns = (
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=plan.steps())

        def advance(text: str, done: int) -> None:
            check()
            progress.update(task, description=text, completed=done)

        return measure(plan, advance)


def check_writable(file: Path) -> None:
    """Raise LabError now, and not after the measurements, when a file's folder is not there."""
    if not file.absolute().parent.is_dir():
        raise LabError(f"{file} cannot be written: there is no folder {file.absolute().parent}")


def write(file: Path, content: bytes) -> None:
    """Write a file. Raises LabError."""
    try:
        file.write_bytes(content)
    except OSError as error:
        raise LabError(f"{file} cannot be written: {error.strerror}") from None
