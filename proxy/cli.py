"""The command line: `proxyd run`, `check`, `reload`, `stop`, `status`, `explain`, `lab` and more.

Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration. What a command needs is imported
when it runs, so that `proxyd version` does not wait for a web server.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy import __version__
from proxy.errors import ConfigError, ProxydError
from proxy.lab import command as lab_command
from proxy.tools import cache_command, explain_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.finding import Finding
    from proxy.config.schema import Config

PARTS = ("uvloop", "httptools", "waitress")

app = typer.Typer(
    help="proxyd: the web server in front of a Python web application.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cache_command.app, name="cache")
ConfigFile = explain_command.ConfigFile


def main() -> None:
    """Run the command line; every intended failure is a message and an exit code."""
    try:
        app(prog_name="proxyd")
    except ProxydError as error:
        sys.stderr.write(f"proxyd: {error}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 1)


@app.command()
def run(
    config: ConfigFile = Path("proxy.toml"),
    watch: Annotated[bool, typer.Option("--watch", help="Reload when a file changes.")] = False,
    allow_root: Annotated[
        bool,
        typer.Option(
            "--allow-root",
            envvar="PROXYD_ALLOW_ROOT",
            help="Started as root without `user`, let workers and applications be root.",
        ),
    ] = False,
) -> None:
    """Serve in the foreground, until Ctrl-C or SIGTERM."""
    from proxy.config.load import load
    from proxy.process import daemon

    raise typer.Exit(daemon.run(load(config), watch=watch, allow_root=allow_root))


@app.command()
def reload(config: ConfigFile = Path("proxy.toml")) -> None:
    """Replace workers and applications by new ones; when those fail, nothing changes."""
    put(ask_daemon(config, "reload")[0])


@app.command()
def upgrade(config: ConfigFile = Path("proxy.toml")) -> None:
    """Hand over to a new master: of the Python and the proxyd that are installed now."""
    put(ask_daemon(config, "upgrade")[0])


@app.command()
def stop(
    config: ConfigFile = Path("proxy.toml"),
    now: Annotated[bool, typer.Option("--now", help="Cut off requests in progress.")] = False,
) -> None:
    """Let requests in progress finish, then end proxyd and all of its processes."""
    put(ask_daemon(config, "stop now" if now else "stop")[0])


@app.command()
def status(
    config: ConfigFile = Path("proxy.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs: processes, generations, connections, upstreams, cache, certificates."""
    import json

    from proxy.process.control_client import state_folder
    from proxy.process.state import METRICS
    from proxy.process.traffic import with_traffic
    from proxy.tools.status import show

    found = with_traffic(ask_daemon(config, "status")[1], state_folder(config) / METRICS)
    if as_json:
        put(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show(found)


app.command()(explain_command.explain)
app.command()(lab_command.lab)


@app.command()
def check(config: ConfigFile = Path("proxy.toml")) -> None:
    """Validate the configuration, walk every path in it, and say what would run."""
    from rich.console import Console
    from rich.text import Text

    from proxy.config.check import check as find
    from proxy.config.load import load

    configuration = load(config)
    findings = find(configuration)
    console = Console(highlight=False, soft_wrap=True)
    for line in summary(configuration):
        console.print(line, markup=False)
    for finding in findings:
        style = "bold red" if finding.level == "error" else "bold yellow"
        console.print()
        console.print(Text(f"{finding.level}: ", style=style) + Text(where(configuration, finding)))
        console.print(f"  {finding.text}", markup=False)
        console.print(f"  {finding.fix}", markup=False, style="green")
    errors = sum(finding.level == "error" for finding in findings)
    console.print()
    console.print(f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")
    raise typer.Exit(2 if errors else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of proxy.toml, for editors."""
    import json

    from proxy.config.reference import json_schema

    put(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def is_compiled() -> bool:
    """Say whether the way of a request runs compiled (see `make wheel`)."""
    from importlib import util

    spec = util.find_spec("proxy.message")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")


@app.command()
def version() -> None:
    """Print the versions of proxyd and of what it stands on."""
    import platform
    from importlib import metadata

    put(f"proxyd {__version__}, {'compiled' if is_compiled() else 'from its sources'}")
    put(f"Python {platform.python_version()}")
    for part in PARTS:
        put(f"{part} {metadata.version(part)}")


@app.command()
def systemd(
    config: ConfigFile = Path("proxy.toml"),
    socket: Annotated[bool, typer.Option("--socket", help="The socket unit beside it.")] = False,
) -> None:
    """Print a hardened unit for systemd: write it to /etc/systemd/system/proxyd.service."""
    from shutil import which

    from proxy.config.load import load
    from proxy.process.unit import service_unit, socket_unit

    configuration = load(config)
    command = Path(sys.argv[0] if "/" in sys.argv[0] else which("proxyd") or sys.argv[0]).absolute()
    text = socket_unit(configuration) if socket else service_unit(configuration, str(command))
    put(text.removesuffix("\n"))


@app.command(hidden=True)
def reference() -> None:
    """Print the reference of proxy.toml that stands in the README."""
    from proxy.config import reference

    put(reference.reference())


def ask_daemon(config: Path, name: str) -> "tuple[str, dict[str, Any]]":
    """Let the running daemon do something; its progress goes to standard error."""
    from proxy.process.control_client import command, state_folder

    return command(state_folder(config), name, lambda text: typer.echo(text, err=True))


def summary(config: "Config") -> "Iterator[str]":
    """Say what this configuration would do."""
    from proxy.config.routes import FilesRoute

    yield f"{config.source.name} is valid"
    for listen in config.listen:
        yield f"  listens on  {listen.address}{' (PROXY protocol)' * listen.proxy_protocol}"
    yield f"  workers     {config.server.worker_count()}"
    for name, app in config.app.items():
        size = f"{counted(app.processes, 'process')}, {counted(app.threads, 'thread')} each"
        yield f"  app         {name}: {app.runs}, {size}"
    for name, upstream in config.upstream.items():
        yield f"  upstream    {name}: {', '.join(map(str, upstream.servers))}"
    for route in config.route:
        host = ", ".join(route.host) + " " if route.host else ""
        target = f"files in {route.files}" if isinstance(route, FilesRoute) else route.to
        yield f"  route       {host}{route.path} → {target}"


def where(config: "Config", finding: "Finding") -> str:
    """Return the place of a finding, as errors of the file have it."""
    from proxy.config.locate import key_text

    return f"{config.source.where(finding.key)}: {key_text(finding.key)}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number or 'no'} {noun}{'' if number == 1 else ending}"


def put(text: str) -> None:
    """Print a line now, so that a reader who has left is noticed here and not at exit."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
