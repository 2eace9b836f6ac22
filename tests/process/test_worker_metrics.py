"""What a worker publishes besides what is counted on the way of a request."""

from pathlib import Path

import pytest

from proxy.clock import Clock
from proxy.compose import Parts
from proxy.config.load import parse
from proxy.observe.logs import ErrorLog
from proxy.observe.metrics import METRICS
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route
from proxy.process.worker_metrics import WorkerMetrics, counter_of, of_route, route_name


def test_a_sequence_that_begins_anywhere_is_counted_by_its_steps() -> None:
    numbers = iter([1 << 60, (1 << 60) + 3, (1 << 60) + 3, 5, 7])
    count = counter_of(lambda: next(numbers))
    assert [count(), count(), count(), count()] == [3, 3, 3, 5]


def test_every_series_of_a_route_has_its_value() -> None:
    part = of_route("/*", Route("a", respond).figures)
    assert len(part.series) == len(part.values())
    assert {series.name for series in part.series} <= set(METRICS)
    assert len(set(part.series)) == len(part.series)


def test_a_route_is_named_by_its_hosts_and_path(tmp_path: Path) -> None:
    config = parse(
        '[[route]]\nhost = ["a.test", "b.test"]\npath = "/x/*"\nfiles = "."\n'
        '[[route]]\npath = "/*"\nfiles = "."\n',
        tmp_path / "proxy.toml",
    )
    assert [route_name(route) for route in config.route] == ["a.test,b.test/x/*", "/*"]


def test_a_worker_without_a_folder_for_its_numbers_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = '[log]\naccess = "off"\n[[route]]\npath = "/*"\nfiles = "."\n'
    config = parse(text, tmp_path / "proxy.toml")
    error_log = ErrorLog("stderr", "worker 1")
    metrics = WorkerMetrics(config, Parts(config, {}, Clock()), error_log)
    metrics.open(SERVICE, NO_CACHE)  # type: ignore[arg-type]
    assert "no metrics are kept" in caplog.text
    metrics.publish()
    metrics.close()


class NoCache:
    tiered = None


NO_CACHE = NoCache()
SERVICE = object()
