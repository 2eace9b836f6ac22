"""Server-Timing of a real proxyd: parts that fit into what a client measures, and no forgery."""

import time
from collections.abc import Callable

import pytest

from proxy.rules.server_timing import parse
from tests.process.running import wait_for
from tests.server.daemon import Daemon
from tests.server.test_status import status
from tests.server.wire import Message

Start = Callable[..., Daemon]

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
wsgi = "application:app"
server = "{server}"
threads = 1
max_connections = 2
[cache]
memory = "{memory}"
[[route]]
path = "/off/*"
to = "flask"
strip_prefix = true
[[route]]
path = "/static/*"
files = "static"
server_timing = true
[[route]]
path = "/*"
to = "flask"
server_timing = true
"""
PARTS = ("accept", "queue", "connect", "upstream")
FORGED = ("X-Proxyd-Timing: app;dur=9", "X_Proxyd_Timing: app;dur=9", "Server-Timing: app;dur=9")


def site(server: str = "waitress", memory: str = "64MiB") -> str:
    return SITE.replace("{server}", server).replace("{memory}", memory)


def told(message: Message) -> dict[str, float]:
    """Return the milliseconds of each metric; none comes twice."""
    values = [value for name, value in message.fields if name == "Server-Timing"]
    found = list(parse(value.encode() for value in values))
    assert len({one.name for one in found}) == len(found)
    return {one.name.decode(): one.duration_s * 1000 for one in found}


@pytest.mark.parametrize("server", ["waitress", "gevent", "werkzeug"])
def test_parts_fit_into_what_the_client_measures(start: Start, server: str) -> None:
    running = start(site(server))
    for _ in range(2):
        began_at = time.perf_counter()
        message = running.ask("/timed", *FORGED)
        took_ms = (time.perf_counter() - began_at) * 1000
        found = told(message)
        assert found["db"] == 20  # as the application says itself
        assert 20 <= found["app"] <= found["upstream"] <= found["total"] <= took_ms
        assert sum(found[part] for part in PARTS) <= found["total"] + 0.003
        assert ("app_cpu" in found) == (server != "gevent")
        assert found.get("app_cpu", 0.0) < found["app"]
        assert message.get("X-Proxyd-Timing") is None
        assert message.get("X-Seen") == "0"
    assert running.stop() == 0
    running.check_clean()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("memory", ["64MiB", "0"])
def test_a_hit_has_times_of_its_own(start: Start, memory: str, workers: int) -> None:
    running = start(site(memory=memory), workers=workers)
    assert told(running.ask("/timed?keep"))["app"] >= 20
    for _ in range(4):
        message = running.ask("/timed?keep")
        assert (message.get("Cache-Status") or "").startswith("proxyd; hit")
        found = told(message)
        assert found.keys() == {"db", "accept", "cache", "total"}
        assert 0 < found["cache"] <= found["total"]
        assert message.get("X-Proxyd-Timing") is None


def test_a_route_without_it_has_only_what_the_application_says(start: Start) -> None:
    running = start(site())
    assert told(running.ask("/off/timed", *FORGED)) == {"db": 20}
    assert told(running.ask("/off/timed?keep")) == {"db": 20}
    assert told(running.ask("/static/style.css")).keys() == {"accept", "total"}
    assert told(running.ask("/static/none")).keys() == {"accept", "total"}


def test_who_waits_for_a_thread_is_told_how_long(start: Start) -> None:
    running = start(site().replace("max_connections = 2", "max_connections = 1"))

    def upstream(key: str) -> int:
        number: int = status(running)["traffic"]["upstreams"][0][key]
        return number

    with running.connect() as first, running.connect() as second:
        first.get("/hold/now")
        wait_for(lambda: upstream("requests") == 1, "a request that holds the thread")
        second.get("/timed")
        wait_for(lambda: upstream("waiting") == 1, "a request that waits")
        waits_at = time.perf_counter()
        time.sleep(0.01)
        waited_ms = (time.perf_counter() - waits_at) * 1000
        (running.folder / "now").touch()
        assert first.message().status == 200
        found = told(second.message())
    assert waited_ms <= found["queue"] <= found["total"] - found["upstream"]
