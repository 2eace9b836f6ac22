"""The numbers that workers publish: summed, and not lost with the process that counted them."""

import os
import signal
from collections.abc import Callable

from proxy.observe.metrics import Series
from proxy.observe.metrics_file import Values, read
from tests.process.running import wait_for
from tests.server.daemon import Daemon

Start = Callable[..., Daemon]

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
wsgi = "application:app"
threads = 2
[[route]]
path = "/static/*"
files = "static"
[[route]]
host = "proxyd.test"
path = "/*"
to = "flask"
[route.cache]
default_ttl = "60s"
"""
STATIC = Series(
    "proxyd_requests_total", (("route", "/static/*"), ("method", "GET"), ("code", "2xx"))
)


def values(running: Daemon) -> Values:
    return read(running.folder / "var" / "metrics")


def wait_for_value(running: Daemon, series: Series, value: float) -> None:
    wait_for(lambda: values(running).get(series) == value, f"{series} to be {value}")


def test_requests_of_all_workers_add_up_and_outlive_them(start: Start) -> None:
    running = start(SITE, workers=2)
    for _ in range(20):
        assert running.ask("/static/page.html").status == 200
    wait_for_value(running, STATIC, 20)
    for name in ("worker 1", "worker 2"):
        os.kill(running.pid(name), signal.SIGKILL)
    wait_for(lambda: running.log.count("runs again") == 2, "both workers to be back")
    assert values(running)[STATIC] == 20
    for _ in range(20):
        assert running.ask("/static/page.html").status == 200
    wait_for_value(running, STATIC, 40)
    assert len(list((running.folder / "var" / "metrics").iterdir())) == 2
    assert running.stop() == 0
    running.check_clean()


def test_what_an_application_answers_is_told_with_its_upstream(start: Start) -> None:
    running = start(SITE)
    for _ in range(3):
        assert running.ask("/pid").status == 200
    route = ("route", "proxyd.test/*")
    get = Series("proxyd_requests_total", (route, ("method", "GET"), ("code", "2xx")))
    wait_for_value(running, get, 3)
    found = values(running)
    durations = [
        value
        for series, value in found.items()
        if series.name == "proxyd_request_duration_seconds"
        and series.labels[0] == route
        and len(series.labels) == 2
    ]
    assert sum(durations) == 3
    upstream = ("upstream", "flask")
    assert found[Series("proxyd_upstream_requests_total", (upstream,))] >= 1
    server = (upstream, ("server", "flask-0"))
    assert found[Series("proxyd_upstream_failures_total", server)] == 0
    assert found[Series("proxyd_upstream_server_down", server)] == 0
    misses = [v for series, v in found.items() if series.name == "proxyd_cache_misses_total"]
    hits = found[Series("proxyd_cache_hits_total", (("state", "fresh"),))]
    assert sum(misses) + hits == 3
    assert running.stop() == 0
    running.check_clean()
