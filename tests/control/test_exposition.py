"""What Prometheus reads, by its own parser."""

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.control.exposition import Exposition, Found
from proxy.observe.metrics import Series
from proxy.observe.metrics_file import Values

ROUTE = ("route", "/*")
STATUS = {
    "uptime_s": 60.0,
    "generations": [
        {
            "number": 7,
            "state": "serving",
            "processes": [
                {"name": "worker 1", "pid": 1, "restarts": 2},
                {"name": "app a", "pid": None, "restarts": 3},
            ],
        },
        {"number": 6, "state": "draining", "processes": []},
    ],
    "certificates": [{"listener": "[::]:443", "names": ["a", "b"], "expires_at": 1e9}],
}


def samples(found: Found) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return what is read, by name and the values of the labels in the order of these."""
    text = generate_latest(Exposition(found)).decode()
    return {
        (sample.name, tuple(value for _label, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_buckets_hold_those_before_them() -> None:
    name = "proxyd_request_duration_seconds"
    values: Values = {
        Series(name, (ROUTE, ("le", "0.5"))): 2,
        Series(name, (ROUTE, ("le", "+Inf"))): 1,
        Series(name, (ROUTE, ("le", "0.1"))): 4,
        Series(name, (ROUTE,)): 3.5,
    }
    found = samples(Found(values, None, None))
    assert found[f"{name}_bucket", ("0.1", "/*")] == 4
    assert found[f"{name}_bucket", ("0.5", "/*")] == 6
    assert found[f"{name}_bucket", ("+Inf", "/*")] == 7
    assert found[f"{name}_count", ("/*",)] == 7
    assert found[f"{name}_sum", ("/*",)] == 3.5


def test_requests_that_never_were_are_left_out() -> None:
    name = "proxyd_requests_total"
    labels = (ROUTE, ("method", "GET"))
    values: Values = {
        Series(name, (*labels, ("code", "2xx"))): 2,
        Series(name, (*labels, ("code", "5xx"))): 0,
    }
    found = samples(Found(values, None, None))
    assert [key for key in found if key[0] == name] == [(name, ("2xx", "GET", "/*"))]


def test_memory_and_disk_stand_side_by_side() -> None:
    values: Values = {Series("proxyd_cache_bytes", (("store", "memory"),)): 5}
    found = samples(Found(values, None, (3, 4096)))
    assert found["proxyd_cache_bytes", ("memory",)] == 5
    assert found["proxyd_cache_bytes", ("disk",)] == 4096
    assert found["proxyd_cache_entries", ("disk",)] == 3


def test_the_processes_are_those_that_serve() -> None:
    found = samples(Found({}, STATUS, None))
    assert found["proxyd_process_up", ("worker 1",)] == 1
    assert found["proxyd_process_up", ("app a",)] == 0
    assert found["proxyd_process_restarts_total", ("app a",)] == 3
    assert found["proxyd_generation", ()] == 7
    assert found["proxyd_generations_draining", ()] == 1
    assert found["proxyd_certificate_expiry_timestamp_seconds", ("[::]:443", "a,b")] == 1e9
