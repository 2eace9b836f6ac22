"""What a person sees when proxyd has started: where to point the browser, and what runs."""

import os
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        for what, where, detail in rows:
            console.print(
                " ".join(part for part in ("proxyd:", what, where, detail) if part),
                markup=False,
                soft_wrap=True,
            )
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(f"\n[bold green]proxyd runs.[/] Point the browser to {escape(urls[0])}\n")
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
