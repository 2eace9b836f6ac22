"""What `proxyd status` makes of the numbers."""

from pathlib import Path

from rich.console import Console

from proxy.observe.metrics import Series
from proxy.observe.metrics_file import MetricsFile, Values
from proxy.process.traffic import traffic_of, with_traffic
from proxy.tools.status import show_traffic

UPSTREAM = ("upstream", "shop")
SERVER = (UPSTREAM, ("server", "a:1"))
VALUES: Values = {
    Series("proxyd_connections", (("state", "busy"),)): 2,
    Series("proxyd_connections", (("state", "idle"),)): 40,
    Series("proxyd_requests_total", (("route", "/*"), ("method", "GET"), ("code", "2xx"))): 8,
    Series("proxyd_requests_total", (("route", "/*"), ("method", "GET"), ("code", "5xx"))): 1,
    Series("proxyd_upstream_requests_total", (UPSTREAM,)): 5,
    Series("proxyd_upstream_waiting", (UPSTREAM,)): 3,
    Series("proxyd_upstream_connections", (*SERVER, ("state", "busy"))): 1,
    Series("proxyd_upstream_connections", (*SERVER, ("state", "idle"))): 6,
    Series("proxyd_upstream_failures_total", SERVER): 7,
    Series("proxyd_upstream_server_down", SERVER): 1,
}
CACHE: Values = {
    Series("proxyd_cache_stored_total"): 2,
    Series("proxyd_cache_hits_total", (("state", "fresh"),)): 3,
    Series("proxyd_cache_misses_total", (("reason", "uri-miss"),)): 1,
    Series("proxyd_cache_entries", (("store", "memory"),)): 2,
    Series("proxyd_cache_bytes", (("store", "memory"),)): 3 << 20,
}


def shown(values: Values) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        show_traffic(traffic_of(values), console)
    return " ".join(capture.get().split())


def test_connections_requests_and_upstreams_are_summed_up() -> None:
    text = shown(VALUES)
    assert "connections 2 busy, 40 idle" in text
    assert "requests 9, of which 1 ended with 5xx" in text
    assert "upstream shop: 5 requests, 3 waiting a:1: 1 busy, 6 idle, 7 failures, down" in text
    assert "cache" not in text


def test_the_cache_is_told_where_there_is_one() -> None:
    assert "cache 3 hits of 4 (75%), 2 stored; in memory 2 entries, 3.0 MiB" in shown(CACHE)
    assert "0 hits of 0, 2 stored" in shown({Series("proxyd_cache_stored_total"): 2})


def test_a_status_gets_the_numbers_or_why_there_are_none(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, [Series("proxyd_upstream_waiting", (UPSTREAM,))])
    assert with_traffic({"pid": 1}, tmp_path)["traffic"]["requests"] == 0
    file.close()
    (tmp_path / "1.metrics").symlink_to(tmp_path / "0.metrics")
    assert "traffic" not in with_traffic({"pid": 1}, tmp_path)
    assert with_traffic({"pid": 1}, tmp_path)["traffic_trouble"]
