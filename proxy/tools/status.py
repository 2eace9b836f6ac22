"""What `proxyd status` shows: what runs, and its numbers in a few words."""

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.tools.words import duration


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


def show_traffic(traffic: dict[str, Any], console: Console) -> None:
    """Print it, for a person."""
    connections = traffic["connections"]
    lines = [
        f"connections  {connections['busy']} busy, {connections['idle']} idle",
        f"requests     {traffic['requests']}, of which {traffic['requests_failed']} ended with 5xx",
    ]
    for upstream in traffic["upstreams"]:
        lines.append(
            f"upstream     {upstream['name']}: {upstream['requests']} requests,"
            f" {upstream['waiting']} waiting"
        )
        lines += [
            f"               {server['server']}: {server['busy']} busy, {server['idle']} idle,"
            f" {server['failures']} failures{', down' if server['down'] else ''}"
            for server in upstream["servers"]
        ]
    cache = traffic["cache"]
    if cache is not None:
        asked = cache["hits"] + cache["misses"]
        part = f" ({cache['hits'] / asked:.0%})" if asked else ""
        lines.append(
            f"cache        {cache['hits']} hits of {asked}{part}, {cache['stored']} stored;"
            f" in memory {cache['memory_entries']} entries, {cache['memory_bytes'] / 2**20:.1f} MiB"
        )
        if "disk_files" in cache:
            size_mib = cache["disk_bytes"] / 2**20
            lines.append(f"               on disk {cache['disk_files']} files, {size_mib:.1f} MiB")
    for line in lines:
        console.print(line, markup=False)


def until(left_s: float) -> str:
    """Say how long a certificate is good for."""
    return f"ends in {duration(left_s)}" if left_s > 0 else "has EXPIRED"
