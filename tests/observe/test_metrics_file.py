"""The file of a worker's numbers: they add up, outlive their worker, and are never damaged."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.observe.metrics import METRICS, Series
from proxy.observe.metrics_file import MetricsFile, clean, read

REQUESTS = Series("proxyd_requests_total", (("route", "/*"), ("code", "2xx")))
OTHERS = Series("proxyd_requests_total", (("route", "/b"), ("code", "2xx")))
OPEN = Series("proxyd_connections", (("state", "idle"),))
PURGES = Series("proxyd_cache_purges_total")
SUM = Series("proxyd_request_duration_seconds", (("route", "/*"),))
ALL = [REQUESTS, OPEN, PURGES, SUM]


def test_what_several_workers_count_adds_up(tmp_path: Path) -> None:
    first, second = MetricsFile(tmp_path, ALL), MetricsFile(tmp_path, ALL)
    first.publish([1, 10, 7, 0.5])
    second.publish([2, 20, 8, 0.25])
    assert read(tmp_path) == {REQUESTS: 3, OPEN: 30, PURGES: 8, SUM: 0.75}
    first.close()
    second.close()


def test_counters_go_on_where_an_ended_worker_left_them(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path, ALL)
    first.publish([5, 10, 7, 0.5])
    first.close()
    assert read(tmp_path) == {REQUESTS: 5, SUM: 0.5}
    second = MetricsFile(tmp_path, ALL)
    assert read(tmp_path) == {REQUESTS: 5, OPEN: 0, PURGES: 0, SUM: 0.5}
    second.publish([1, 3, 7, 0.5])
    assert read(tmp_path) == {REQUESTS: 6, OPEN: 3, PURGES: 7, SUM: 1.0}
    assert len(list(tmp_path.iterdir())) == 1
    second.close()


def test_counters_of_a_route_that_is_no_more_stay(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path, [REQUESTS])
    first.publish([5])
    first.close()
    second = MetricsFile(tmp_path, [OTHERS])
    second.publish([1])
    assert read(tmp_path) == {REQUESTS: 5, OTHERS: 1}
    second.close()


WORKER = """
import sys
from pathlib import Path
from proxy.observe.metrics import Series
from proxy.observe.metrics_file import MetricsFile
file = MetricsFile(Path(sys.argv[1]), [Series("proxyd_tls_handshakes_total"),
                                       Series("proxyd_tls_handshakes_pending")])
file.publish([4, 2])
print("ready", flush=True)
sys.stdin.read()
"""


def test_counters_survive_a_worker_that_is_killed_and_gauges_do_not(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        assert read(tmp_path)[Series("proxyd_tls_handshakes_pending")] == 2
        worker.send_signal(signal.SIGKILL)
        worker.wait(timeout=20)
    assert read(tmp_path) == {Series("proxyd_tls_handshakes_total"): 4}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"proxydM1",
        b"another!\x01\0\0\0\0\0\0\0",
        b"proxydM1\xff\xff\xff\xff\xff\xff\xff\xff[]",
    ],
)
def test_a_damaged_file_says_nothing_and_is_used_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.metrics").write_bytes(content)
    assert read(tmp_path) == {}
    file = MetricsFile(tmp_path, [REQUESTS])
    file.publish([1])
    assert read(tmp_path) == {REQUESTS: 1}
    file.close()


def test_a_metric_of_another_version_is_passed_over(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, [REQUESTS])
    file.publish([1])
    file.close()
    path = tmp_path / "0.metrics"
    path.write_bytes(path.read_bytes().replace(b"proxyd_requests_total", b"proxyd_requests_gone1"))
    assert read(tmp_path) == {}


def test_values_must_fit_the_series(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, [REQUESTS])
    with pytest.raises(ValueError, match="2 values for 1 series"):
        file.publish([1, 2])
    file.close()
    file.close()


def test_a_disk_that_takes_nothing_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = MetricsFile(tmp_path, [REQUESTS])
    monkeypatch.setattr(os, "pwrite", refuse)
    file.publish([1])
    file.publish([2])
    assert len(caplog.records) == 1
    monkeypatch.undo()
    file.publish([3])
    assert read(tmp_path) == {REQUESTS: 3}
    file.close()


def refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_the_numbers_of_another_run_are_removed(tmp_path: Path) -> None:
    MetricsFile(tmp_path, [REQUESTS]).close()
    (tmp_path / "7.new").touch()
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_counter_is_named_as_prometheus_wants_it() -> None:
    for name, metric in METRICS.items():
        assert name.startswith("proxyd_")
        assert name.endswith("_total") == (metric.kind in {"counter", "largest"}), name
        assert metric.help.endswith(".")
