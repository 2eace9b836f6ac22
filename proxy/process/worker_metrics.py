"""What a worker publishes of itself, once a second: counted on the way, or seen where it is."""

import logging
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from proxy.compose import Parts
from proxy.config.routes import FilesRoute, ToRoute
from proxy.config.schema import Config
from proxy.observe.figures import DURATIONS_S, METHODS, OTHER_METHOD, CacheFigures, RouteFigures
from proxy.observe.logs import ErrorLog
from proxy.observe.metrics import Series
from proxy.observe.metrics_file import MetricsFile
from proxy.pipeline.site import Site
from proxy.process.state import METRICS
from proxy.process.worker_cache import WorkerCache
from proxy.protocol.service import Service
from proxy.rules import cache_status
from proxy.upstream.address import UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.pool import Pool

PUBLISH_S = 1.0
NO_ROUTE = "none"
# More purges in a second there are not.
_JUMP = 10_000_000
INFINITE = "+Inf"
_METHODS = {**{name.decode(): at for name, at in METHODS.items()}, "other": OTHER_METHOD}
# Three digits that begin with more than 5 are an upstream's invention.
_HUNDREDS = range(1, 6)
_MISSES = (
    cache_status.BYPASS,
    cache_status.METHOD,
    cache_status.URI_MISS,
    cache_status.VARY_MISS,
    cache_status.MISS,
    cache_status.REQUEST,
    cache_status.STALE,
    cache_status.PARTIAL,
)

log = logging.getLogger("proxyd.metrics")


class Part(NamedTuple):
    """Some series, and what gives their values in the same order."""

    series: list[Series]
    values: Callable[[], list[float]]


class WorkerMetrics:
    """The numbers of one worker; without a folder for them they are not kept, and it serves."""

    def __init__(self, config: Config, parts: Parts, error_log: ErrorLog) -> None:
        self._config = config
        self._runs = parts
        self._error_log = error_log
        self._parts: list[Part] = []
        self._file: MetricsFile | None = None

    def open(self, service: Service, cache: WorkerCache) -> None:
        """Take a file, and go on with the counters that are in it."""
        site = self._runs.site
        names = [route_name(route) for route in self._config.route]
        figures = [route.figures for route in site.routes]
        self._parts = [
            *map(of_route, [*names, NO_ROUTE], [*figures, site.figures]),
            of_clients(service),
            *chain.from_iterable(
                of_upstream(group, name in self._config.app)
                for name, group in self._runs.groups.items()
            ),
            of_log(self._runs, self._error_log),
        ]
        if cache.tiered is not None:
            self._parts.append(of_cache(site, cache))
        series = [one for part in self._parts for one in part.series]
        try:
            self._file = MetricsFile(folder_of(self._config), series)
        except OSError as error:
            log.warning("no metrics are kept: %s", error)

    def publish(self) -> None:
        """Write the numbers as they are now."""
        if self._file is not None:
            self._file.publish([value for part in self._parts for value in part.values()])

    def close(self) -> None:
        """Write the last numbers."""
        self.publish()
        if self._file is not None:
            self._file.close()
            self._file = None


def folder_of(config: Config) -> Path:
    """Return where the workers of a daemon keep their numbers."""
    return config.server.state_dir / METRICS


def route_name(route: FilesRoute | ToRoute) -> str:
    """Return what a route is called: its host, if it has any, and its path."""
    return f"{','.join(route.host or ())}{route.path}"


def of_route(name: str, figures: RouteFigures) -> Part:
    """Tell the requests of a route."""
    route = ("route", name)
    places: list[int] = []
    series: list[Series] = []
    for method, at in _METHODS.items():
        for hundred in _HUNDREDS:
            places.append(at + hundred)
            labels = (route, ("method", method), ("code", f"{hundred}xx"))
            series.append(Series("proxyd_requests_total", labels))
    duration = "proxyd_request_duration_seconds"
    bounds = [*map(str, DURATIONS_S), INFINITE]
    series += [Series(duration, (route, ("le", bound))) for bound in bounds]
    series += [
        Series(duration, (route,)),
        Series("proxyd_sent_bytes_total", (route,)),
        Series("proxyd_received_bytes_total", (route,)),
    ]

    def values() -> list[float]:
        requests = figures.requests
        return [
            *[requests[place] for place in places],
            *figures.durations,
            figures.duration_s,
            figures.sent_bytes,
            figures.received_bytes,
        ]

    return Part(series, values)


def of_clients(service: Service) -> Part:
    """Tell the connections of clients, and their handshakes."""
    series = [
        Series("proxyd_connections", (("state", "busy"),)),
        Series("proxyd_connections", (("state", "idle"),)),
        Series("proxyd_connections_accepted_total"),
        Series("proxyd_tls_handshakes_total", (("result", "complete"),)),
        Series("proxyd_tls_handshakes_total", (("result", "failed"),)),
        Series("proxyd_tls_handshakes_pending"),
    ]
    return Part(
        series,
        lambda: [
            len(service.connections) - len(service.idle),
            len(service.idle),
            service.accepted,
            service.handshakes_complete,
            service.handshakes_failed,
            len(service.handshakes),
        ],
    )


def of_upstream(group: Group, managed: bool) -> Iterator[Part]:
    """Tell the requests of an upstream or an application, and how each of its servers does."""
    upstream = ("upstream", group.name)
    yield Part(
        [
            Series("proxyd_upstream_requests_total", (upstream,)),
            Series("proxyd_upstream_waiting", (upstream,)),
        ],
        lambda: [group.requests, group.waiting],
    )
    for pool in group.pools:
        yield of_server((upstream, ("server", server_name(pool, managed))), pool)


def of_server(labels: tuple[tuple[str, str], ...], pool: Pool) -> Part:
    """Tell how one server does."""
    series = [
        Series("proxyd_upstream_failures_total", labels),
        Series("proxyd_upstream_connections", (*labels, ("state", "busy"))),
        Series("proxyd_upstream_connections", (*labels, ("state", "idle"))),
        Series("proxyd_upstream_server_down", labels),
    ]
    return Part(
        series,
        lambda: [pool.failures, pool.busy, len(pool.idle), not pool.health.usable(monotonic())],
    )


def server_name(pool: Pool, managed: bool) -> str:
    """Return the address of a server; a process of an application keeps its name over reloads."""
    address = pool.server.address
    return address.path.stem if managed and isinstance(address, UnixAddress) else str(address)


def of_cache(site: Site, cache: WorkerCache) -> Part:
    """Tell what the cache does."""
    figures: CacheFigures = site.cache_figures
    tiered, purges = cache.tiered, cache.purges
    memory = (("store", "memory"),)
    series = [
        Series("proxyd_cache_hits_total", (("state", "fresh"),)),
        Series("proxyd_cache_hits_total", (("state", "stale"),)),
        *(Series("proxyd_cache_misses_total", (("reason", why.decode()),)) for why in _MISSES),
        Series("proxyd_cache_collapsed_total"),
        Series("proxyd_cache_stored_total"),
        Series("proxyd_cache_memory_evictions_total"),
        Series("proxyd_cache_entries", memory),
        Series("proxyd_cache_bytes", memory),
        Series("proxyd_cache_purges_total"),
    ]

    # Asked for each time: of another file it is another function.
    count_purges = counter_of(lambda: purges.current())  # noqa: PLW0108

    def values() -> list[float]:
        return [
            figures.hits,
            figures.stale,
            *[figures.forwarded.get(why, 0) for why in _MISSES],
            figures.collapsed,
            figures.stored,
            figures.evicted,
            0 if tiered is None else len(tiered.memory),
            0 if tiered is None else tiered.memory.cost_bytes,
            count_purges(),
        ]

    return Part(series, values)


def counter_of(current: Callable[[], int]) -> Callable[[], int]:
    """Return what counts how much a sequence has grown; another file's begins anywhere."""
    last = current()
    total = 0

    def count() -> int:
        nonlocal last, total
        now = current()
        if 0 <= now - last < _JUMP:
            total += now - last
        last = now
        return total

    return count


def of_log(parts: Parts, error_log: ErrorLog) -> Part:
    """Tell what the logs could not take."""
    series = [
        Series("proxyd_log_lines_lost_total", (("log", "access"),)),
        Series("proxyd_log_lines_lost_total", (("log", "error"),)),
    ]
    return Part(series, lambda: [parts.access_log.lost_lines, error_log.lost_records])
