"""What a person sees when proxyd has started: where to point the browser, and what runs."""

import os
import sys
from collections.abc import Iterable, Sequence

from proxy.config.routes import FilesRoute
from proxy.config.schema import Config
from proxy.process.children import Child


def announce(
    config: Config, urls: Sequence[str], apps: Iterable[Child], workers: Iterable[Child]
) -> None:
    """Print to standard error: a table on a terminal, plain lines elsewhere."""
    rows = [
        *(("listening", url, "") for url in urls),
        *_trust(config),
        *_routes(config),
        *((child.program.name, "", f"pid {child.pid}") for child in [*apps, *workers]),
        ("master", "", f"pid {os.getpid()}"),
    ]
    if sys.stderr.isatty():
        _show(urls[0], rows)
        return
    lines = (" ".join(part for part in ("proxyd:", *row) if part) for row in rows)
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _show(url: str, rows: Sequence[tuple[str, str, str]]) -> None:
    from rich.console import Console  # only for a person
    from rich.markup import escape
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(f"\n[bold green]proxyd runs.[/] Point the browser to {escape(url)}\n")
    console.print(table)
    console.print("\nCtrl-C ends every process.\n", style="dim")


def _trust(config: Config) -> list[tuple[str, str, str]]:
    if all(listen.tls != "internal" for listen in config.listen):
        return []
    from proxy.process.authority import how_to_trust

    return [("to trust", "its https:", how_to_trust(config))]


def _routes(config: Config) -> list[tuple[str, str, str]]:
    rows = []
    for route in config.route:
        path = ", ".join(f"{host}{route.path}" for host in route.host or ("",))
        if isinstance(route, FilesRoute):
            target = f"files in {os.path.relpath(route.files)}"
        elif route.to in config.app:
            app = config.app[route.to]
            target = f"{route.to}: {app.runs}"
        else:
            target = f"{route.to}: {', '.join(map(str, config.upstream[route.to].servers))}"
        rows.append(("route", path, target))
    return rows
