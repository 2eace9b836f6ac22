"""What the numbers of the workers come to, in a few words: for `proxyd status`."""

from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

from proxy.cache.inventory import Inventory, InventoryError
from proxy.observe.metrics import Series
from proxy.observe.metrics_file import Values, read

STATES = ("busy", "idle")
CONNECTIONS = "proxyd_upstream_connections"


def with_traffic(status: dict[str, Any], metrics_folder: Path) -> dict[str, Any]:
    """Return a status with `traffic`, or with why there is none."""
    try:
        values = read(metrics_folder)
    except OSError as error:
        return status | {"traffic_trouble": str(error)}
    traffic = traffic_of(values)
    if traffic["cache"] is not None and (folder := status.get("cache_folder")) is not None:
        traffic["cache"] |= disk_of(Path(folder))
    return status | {"traffic": traffic}


def disk_of(folder: Path) -> dict[str, int]:
    """Return what a cache has on disk; nothing when its catalogue cannot be read."""
    try:
        with closing(Inventory(folder)) as inventory:
            files, size_bytes = inventory.totals()
    except InventoryError:
        return {}
    return {"disk_files": files, "disk_bytes": size_bytes}


def traffic_of(values: Values) -> dict[str, Any]:
    """Return what is going on, as JSON has it."""

    def total(name: str, **labels: str) -> int:
        return int(
            sum(
                value
                for series, value in values.items()
                if series.name == name and labels.items() <= dict(series.labels).items()
            )
        )

    return {
        "connections": {state: total("proxyd_connections", state=state) for state in STATES},
        "requests": total("proxyd_requests_total"),
        "requests_failed": total("proxyd_requests_total", code="5xx"),
        "upstreams": [
            {
                "name": name,
                "requests": total("proxyd_upstream_requests_total", upstream=name),
                "waiting": total("proxyd_upstream_waiting", upstream=name),
                "servers": [
                    {
                        "server": server,
                        "busy": total(CONNECTIONS, upstream=name, server=server, state="busy"),
                        "idle": total(CONNECTIONS, upstream=name, server=server, state="idle"),
                        "failures": total(
                            "proxyd_upstream_failures_total", upstream=name, server=server
                        ),
                        "down": total("proxyd_upstream_server_down", upstream=name, server=server),
                    }
                    for server in servers
                ],
            }
            for name, servers in servers_of(values).items()
        ],
        "cache": cache_of(values, total("proxyd_cache_hits_total"), total),
    }


def servers_of(values: Values) -> dict[str, list[str]]:
    """Return the servers of each upstream that there is now."""
    found: dict[str, list[str]] = defaultdict(list)
    for series in values:
        if series.name == "proxyd_upstream_server_down":
            labels = dict(series.labels)
            found[labels["upstream"]].append(labels["server"])
    return dict(found)


def cache_of(values: Values, hits: int, total: Any) -> dict[str, Any] | None:
    """Return what the cache does; None when no route has one."""
    if Series("proxyd_cache_stored_total") not in values:
        return None
    misses = total("proxyd_cache_misses_total")
    return {
        "hits": hits,
        "misses": misses,
        "stored": total("proxyd_cache_stored_total"),
        "memory_entries": total("proxyd_cache_entries", store="memory"),
        "memory_bytes": total("proxyd_cache_bytes", store="memory"),
    }
