"""What `proxyd status` says of a daemon that serves, beside what is so."""

import json
import subprocess
from contextlib import ExitStack
from typing import Any

from tests.process.running import alive, wait_for
from tests.server.daemon import PROXYD, Daemon, serving
from tests.server.test_control import free_port

SITE = """
[[listen]]
address = "127.0.0.1:0"
[[listen]]
address = "127.0.0.1:{tls}"
tls = "internal"
[app.flask]
wsgi = "application:app"
[upstream.gone]
servers = ["127.0.0.1:1"]
[[route]]
path = "/gone/*"
to = "gone"
[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/*"
to = "flask"
[route.cache]
default_ttl = "60s"
"""


def told(running: Daemon, *options: str) -> str:
    done = subprocess.run(
        [PROXYD, "status", *options, "-c", running.folder / "proxy.toml"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def status(running: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(running, "--json"))
    return found


def test_processes_connections_upstreams_cache_and_certificates_are_as_it_says() -> None:
    site = SITE.replace("{tls}", str(free_port()))
    with serving(site, control=True) as running, ExitStack() as connections:
        first = status(running)
        assert first["pid"] == running.process.pid
        assert first["listeners"] == running.urls
        (generation,) = first["generations"]
        processes = {each["name"]: each["pid"] for each in generation["processes"]}
        assert set(processes) == {"app flask", "worker 1", "cache keeper", "control"}
        assert all(alive(pid) for pid in processes.values())
        assert processes["worker 1"] == running.pid("worker 1")
        (certificate,) = first["certificates"]
        assert "localhost" in certificate["names"]
        assert certificate["expires_at"] > 0

        idle = [connections.enter_context(running.connect()) for _ in range(3)]
        for wire in idle:
            wire.get("/whoami")
            assert wire.message().status == 200
        assert running.ask("/gone/x").status == 502

        def counted() -> bool:
            traffic = status(running)["traffic"]
            cache, upstreams = (
                traffic["cache"],
                {each["name"]: each for each in traffic["upstreams"]},
            )
            return (
                traffic["connections"]["idle"] == 3
                and (traffic["requests"], traffic["requests_failed"]) == (4, 1)
                and upstreams["flask"]["requests"] == cache["stored"] == 1
                and upstreams["gone"]["servers"][0]["failures"] > 0
                and cache["hits"] == 2
                and cache.get("disk_files", 0) > 0  # not told before the keeper's first figures
            )

        wait_for(counted, f"numbers that are true: {status(running)['traffic']}")
        text = told(running)
        assert "connections  0 busy, 3 idle" in text
        assert "cache        2 hits of " in text
        assert "on disk " in text
        assert "certificate  localhost" in text
        assert "ends in 89d" in text
        connections.close()
        assert running.stop() == 0
        refused = [str(PROXYD), "status", "-c", str(running.folder / "proxy.toml")]
        done = subprocess.run(refused, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
