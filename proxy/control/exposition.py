"""Everything in numbers, as Prometheus reads it: what workers published, and what runs."""

import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from proxy import __version__
from proxy.cache.inventory import Inventory, InventoryError
from proxy.config.schema import Config
from proxy.observe.metrics import METRICS, Labels, Series
from proxy.observe.metrics_file import Values

_BUCKET = "le"


class Found(NamedTuple):
    """What there is to tell: of the workers, of the master, and of the disk cache."""

    values: Values
    status: dict[str, Any] | None
    disk: tuple[int, int] | None


class Exposition:
    """Stands for a registry of prometheus_client: it is asked once, for `collect`."""

    def __init__(self, found: Found) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """Give each metric with its values."""
        grouped: dict[str, Values] = defaultdict(dict)
        for series, value in self._found.values.items():
            grouped[series.name][series] = value
        disk = self._found.disk
        if disk is not None:
            labels = (("store", "disk"),)
            for name, number in zip(
                ("proxyd_cache_entries", "proxyd_cache_bytes"), disk, strict=True
            ):
                grouped[name][Series(name, labels)] = number
        for name, metric in METRICS.items():
            if grouped[name]:
                yield from family(name, metric.kind, metric.help, grouped[name])
        yield from of_build()
        if self._found.status is not None:
            yield from of_processes(self._found.status)


def family(name: str, kind: str, text: str, values: Values) -> Iterator[Metric]:
    """Give one metric of the workers'."""
    if kind == "histogram":
        yield histogram(name, text, values)
        return
    make = GaugeMetricFamily if kind == "gauge" else CounterMetricFamily
    labels = [label for label, _value in next(iter(values)).labels]
    made = make(name, text, labels=labels)
    for series, value in values.items():
        # Of all methods and statuses, those that there were.
        if value or name != "proxyd_requests_total":
            made.add_metric([value for _label, value in series.labels], value)
    yield made


def histogram(name: str, text: str, values: Values) -> Metric:
    """Give a histogram, whose buckets hold those before them."""
    sums: dict[Labels, float] = {}
    buckets: dict[Labels, list[tuple[str, float]]] = defaultdict(list)
    for series, value in values.items():
        labels = tuple(label for label in series.labels if label[0] != _BUCKET)
        if len(labels) == len(series.labels):
            sums[labels] = value
        else:
            buckets[labels].append((dict(series.labels)[_BUCKET], value))
    made = HistogramMetricFamily(name, text, labels=[label for label, _value in next(iter(sums))])
    for labels, found in buckets.items():
        so_far = 0.0
        cumulative = []
        for bound, value in sorted(found, key=lambda one: float(one[0])):
            so_far += value
            cumulative.append((bound, so_far))
        made.add_metric([value for _label, value in labels], cumulative, sums.get(labels, 0.0))
    return made


def of_build() -> Iterator[Metric]:
    """Tell the versions."""
    made = GaugeMetricFamily(
        "proxyd_build_info", "Always 1; the versions.", labels=["version", "python"]
    )
    made.add_metric([__version__, platform.python_version()], 1)
    yield made


def of_processes(status: dict[str, Any]) -> Iterator[Metric]:
    """Tell what the master says of its processes."""
    yield GaugeMetricFamily(
        "proxyd_start_time_seconds",
        "When the master was started, in seconds since the epoch.",
        value=round(time.time() - status["uptime_s"], 1),
    )
    serving = status["generations"][0]
    yield GaugeMetricFamily(
        "proxyd_generation",
        "The number of the generation that serves; each reload adds one.",
        value=serving["number"],
    )
    yield GaugeMetricFamily(
        "proxyd_generations_draining",
        "Former generations that finish requests.",
        value=len(status["generations"]) - 1,
    )
    up = GaugeMetricFamily("proxyd_process_up", "Whether a process runs.", labels=["process"])
    restarts = CounterMetricFamily(
        "proxyd_process_restarts_total",
        "How often a process of this generation had to be started again.",
        labels=["process"],
    )
    for process in serving["processes"]:
        up.add_metric([process["name"]], process["pid"] is not None)
        restarts.add_metric([process["name"]], process["restarts"])
    yield up
    yield restarts
    expiry = GaugeMetricFamily(
        "proxyd_certificate_expiry_timestamp_seconds",
        "When a certificate ends, in seconds since the epoch.",
        labels=["listener", "names"],
    )
    for certificate in status.get("certificates", ()):
        labels = [certificate["listener"], ",".join(certificate["names"])]
        expiry.add_metric(labels, certificate["expires_at"])
    yield expiry


def disk_totals(config: Config) -> tuple[int, int] | None:
    """Return the files of the disk cache and their bytes; None where there is none to be read."""
    if not config.uses_cache or not config.cache.disk:
        return None
    try:
        with closing(Inventory(config.cache_folder)) as inventory:
            return inventory.totals()
    except InventoryError:
        return None
