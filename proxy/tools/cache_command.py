"""`proxyd cache …`: what is stored, why it is fresh or stale, and how it goes away or comes.

What a command needs is imported when it runs, as in `proxy.cli`.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from proxy.tools.explain_command import ConfigFile, Headers

if TYPE_CHECKING:
    from proxy.tools.warm import Daemon, Warmed

app = typer.Typer(
    help="Look into the cache, empty it, fill it.", no_args_is_help=True, add_completion=False
)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Texts = list[str] | None
# How many URLs that were not stored are named.
NAMED = 20


@app.command()
def purge(
    urls: Annotated[Texts, typer.Argument(metavar="[URL]...")] = None,
    prefix: Annotated[Texts, typer.Option(help="All URLs that begin so: example.com/a/")] = None,
    pattern: Annotated[Texts, typer.Option(help="* is anything: '*/a/*.css'")] = None,
    tag: Annotated[Texts, typer.Option(help="What carries it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Make it stale; grace still serves it.")
    ] = False,
    config: ConfigFile = Path("proxy.toml"),
) -> None:
    """Empty the cache of a URL, or more; in effect on every worker when this returns."""
    from proxy.tools import purging
    from proxy.tools.setting import setting

    wish = purging.Wish(
        urls=urls or (),
        prefixes=prefix or (),
        patterns=pattern or (),
        tags=tag or (),
        everything=everything,
        soft=soft,
    )
    for line in purging.purge(setting(config), wish):
        typer.echo(line)


@app.command()
def stats(as_json: Json = False, config: ConfigFile = Path("proxy.toml")) -> None:
    """Show how much is stored, on disk and in the memory of each worker."""
    from proxy.tools import listing
    from proxy.tools.setting import setting
    from proxy.tools.workers import WorkerSockets

    set_up = setting(config)
    found = listing.stats(set_up, WorkerSockets(set_up.run_folder))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        listing.show_stats(found)


@app.command()
def ls(
    pattern: Annotated[str, typer.Argument(help="Of keys; * is anything.")] = "*",
    sort: Annotated[
        Literal["size", "age", "hits"], typer.Option(help="Largest, oldest, or most used first.")
    ] = "size",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Json = False,
    config: ConfigFile = Path("proxy.toml"),
) -> None:
    """List what is stored."""
    from dataclasses import asdict

    from proxy.tools import listing
    from proxy.tools.setting import setting
    from proxy.tools.workers import WorkerSockets

    set_up = setting(config)
    listed, trouble = listing.ls(set_up, WorkerSockets(set_up.run_folder), pattern, sort, limit)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in listed], indent=2, ensure_ascii=False))
        if trouble:
            typer.echo(trouble, err=True)
    else:
        listing.show_ls(listed, trouble)


@app.command()
def show(
    url: Annotated[str, typer.Argument(metavar="URL")],
    header: Headers = None,
    as_json: Json = False,
    config: ConfigFile = Path("proxy.toml"),
) -> None:
    """Show what is stored for a URL: the entry, its variants, why it is fresh or stale."""
    from proxy.tools import show as showing
    from proxy.tools.asked import asked
    from proxy.tools.explain import show_entry
    from proxy.tools.setting import setting

    told = show_entry(setting(config), asked(url, header or ()))
    if as_json:
        typer.echo(json.dumps(showing.plain(told), indent=2, ensure_ascii=False))
    else:
        showing.show(told)


@app.command()
def warm(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|SITEMAP-URL", help="A URL on each line, or a sitemap; - is input."
        ),
    ],
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Requests at a time.")] = 4,
    header: Headers = None,
    config: ConfigFile = Path("proxy.toml"),
) -> None:
    """Ask the running proxyd for a list of URLs, so that their answers are stored."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from proxy.tools import warm as warming

    daemon = running_daemon(config, header or [])
    wanted = warming.urls_of(daemon, source, read_source)
    poor: list[Warmed] = []
    columns = ("[bold]warming", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=len(wanted))

        def done(warmed: "Warmed") -> None:
            progress.advance(task)
            if warmed.outcome in {"failed", "not stored"}:
                poor.append(warmed)

        counts = warming.warm(daemon, wanted, parallel, done)
    daemon.close()
    for warmed in poor[:NAMED]:
        typer.echo(f"{warmed.outcome}: {warmed.url}: {warmed.detail}")
    if len(poor) > NAMED:
        typer.echo(f"and {len(poor) - NAMED} more")
    if counts["not stored"]:
        typer.echo("why one is not stored, `proxyd explain URL --fetch` says")
    typer.echo(", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())))
    raise typer.Exit(1 if counts["failed"] else 0)


def running_daemon(config: Path, headers: list[str]) -> "Daemon":
    """Return the listeners of the daemon of a configuration. Raises CommandError."""
    from proxy.process.control_client import command, state_folder
    from proxy.tools.asked import field
    from proxy.tools.warm import Daemon

    _text, found = command(state_folder(config), "status", lambda _text: None)
    lines = [field(header) for header in headers]
    return Daemon(found["listeners"], {name.decode(): value.decode() for name, value in lines})


def read_source(name: str) -> bytes:
    """Return the content of a list. Raises CommandError."""
    from proxy.errors import CommandError

    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise CommandError(
            f"{name} cannot be read: {error.strerror}; it may be a file, a URL of a sitemap, or -"
        ) from None
