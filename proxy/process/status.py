"""What runs: gathered by the master, shown by `proxyd status`."""

import os
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy import __version__
from proxy.compose import cache_folder, uses_cache
from proxy.config.schema import Config
from proxy.process.generation import Generation
from proxy.process.traffic import show_traffic


def status_of(
    current: Generation, draining: Iterable[Generation], uptime_s: float
) -> dict[str, Any]:
    """Return what runs, for the control socket: plain values, times in seconds."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(uptime_s, 1),
        "config": str(current.config.source.file),
        "listeners": current.listeners.urls(),
        "certificates": current.certificates,
        "cache_folder": _cache_folder(current.config),
        "generations": [
            _generation(current, "serving"),
            *(_generation(generation, "draining") for generation in draining),
        ],
    }


def _cache_folder(config: Config) -> str | None:
    """Return where answers are kept on disk; None when they are not."""
    on_disk = uses_cache(config) and config.cache.disk
    return str(cache_folder(config)) if on_disk else None


def _generation(generation: Generation, state: str) -> dict[str, Any]:
    return {
        "number": generation.number,
        "state": state,
        "processes": [
            {
                "name": child.program.name,
                "pid": child.pid,
                "uptime_s": round(child.age_s, 1) if child.pid is not None else None,
                "restarts": child.restarts,
            }
            for child in generation.children
            if state == "serving" or child.pid is not None
        ],
    }


def show(status: dict[str, Any]) -> None:
    """Print a status to standard output, for a person."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"proxyd {status['version']}, pid {status['pid']}, for {duration(status['uptime_s'])},"
        f" {status['config']}",
        markup=False,
    )
    for url in status["listeners"]:
        console.print(f"listening on {url}", markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("process", "generation", "state", "pid", "uptime", "restarts"):
        table.add_column(heading)
    for generation in status["generations"]:
        for process in generation["processes"]:
            running = process["pid"] is not None
            table.add_row(
                escape(process["name"]),
                str(generation["number"]),
                generation["state"] if running else "restarting",
                str(process["pid"]) if running else "-",
                duration(process["uptime_s"]) if running else "-",
                str(process["restarts"]),
            )
    console.print(table)
    if "traffic" in status:
        show_traffic(status["traffic"], console)
    elif "traffic_trouble" in status:
        console.print(f"no numbers: {status['traffic_trouble']}", markup=False)
    for certificate in status.get("certificates", ()):
        console.print(
            f"certificate  {', '.join(certificate['names'])} on {certificate['listener']}:"
            f" {until(certificate['expires_at'] - time.time())}",
            markup=False,
        )


def until(left_s: float) -> str:
    """Say how long a certificate is good for."""
    return f"ends in {duration(left_s)}" if left_s > 0 else "has EXPIRED"


def duration(seconds: float) -> str:
    """Write a time as people do: its two largest units."""
    rest = int(seconds)
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        number, rest = divmod(rest, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])
