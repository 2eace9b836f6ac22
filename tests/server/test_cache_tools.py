"""`proxyd cache` and PURGE on a running daemon: what they say is so, on both workers."""

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.process.running import wait_for
from tests.server.daemon import PROXYD, Daemon, serving

CONFIGURATION = """
[[listen]]
address = "127.0.0.1:0"
[[listen]]
address = "unix:other.sock"
tls = "internal"
[cache]
disk = "64MiB"
purge_from = ["127.0.0.0/8"]
[upstream.app]
servers = ["127.0.0.1:{port}"]
[[route]]
path = "/*"
to = "app"
"""
WORKERS = 2
# As the requests of `Daemon.ask` name it.
SITE = "http://proxyd.test"


class Handler(BaseHTTPRequestHandler):
    """Answers /p/N with tags, /me with a private page, /sitemap.xml with all of these."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        served = self.server
        assert isinstance(served, App)
        served.asked.append(self.path)
        content = f"{self.path} {len(served.asked)}".encode()
        lifetime = "private" if self.path.startswith("/me") else "public, max-age=600"
        if self.path == "/sitemap.xml":
            locations = [f"http://{self.headers['Host']}{path}" for path in (*served.pages, "/me")]
            urls = "".join(f"<url><loc>{location}</loc></url>" for location in locations)
            content = f"<urlset>{urls}</urlset>".encode()
        self.send_response(503 if self.path == "/broken" else 200)
        self.send_header("Cache-Control", lifetime)
        self.send_header("Surrogate-Key", "pages")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class App(ThreadingHTTPServer):
    daemon_threads = True
    pages = tuple(f"/p/{number}" for number in range(8))

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    with App() as served:
        thread = Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def cached(app: App) -> Iterator[Daemon]:
    text = CONFIGURATION.replace("{port}", str(app.server_address[1]))
    with serving(text, workers=WORKERS) as daemon:
        yield daemon


def tool(daemon: Daemon, *arguments: str, code: int = 0, given: str = "") -> str:
    done = subprocess.run(
        [PROXYD, *arguments, "-c", daemon.folder / "proxy.toml"],
        input=given,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def on_every_worker(daemon: Daemon, path: str) -> set[bytes]:
    """Return what so many connections get that each worker has answered some."""
    return {daemon.ask(path).body for _ in range(12)}


def counted(app: App, path: str) -> int:
    return app.asked.count(path)


def test_warm_stores_what_a_sitemap_names(cached: Daemon, app: App) -> None:
    said = tool(cached, "cache", "warm", f"{cached.url}/sitemap.xml", "--parallel", "2")
    assert "8 stored" in said
    assert f"not stored: {cached.url}/me" in said
    assert [counted(app, page) for page in app.pages] == [1] * 8
    urls = "\n".join(f"{cached.url}{page}" for page in app.pages)
    assert "8 hit" in tool(cached, "cache", "warm", "-", given=urls)


def test_warm_says_what_failed(cached: Daemon, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{cached.url}/broken\n")
    said = tool(cached, "cache", "warm", str(tmp_path / "list"), code=1)
    assert f"failed: {cached.url}/broken: 503" in said


def test_warm_needs_a_list_that_is_there(cached: Daemon) -> None:
    assert "cannot be read" in tool(cached, "cache", "warm", "nowhere.txt", code=1)
    assert "proxyd answers 503" in tool(cached, "cache", "warm", f"{cached.url}/broken", code=1)


def test_a_purged_url_is_gone_on_every_worker_when_the_command_returns(
    cached: Daemon, app: App
) -> None:
    before = on_every_worker(cached, "/p/1")
    assert len(before) == 1
    assert "purged: url" in tool(cached, "cache", "purge", f"{SITE}/p/1")
    after = on_every_worker(cached, "/p/1")
    assert len(after) == 1
    assert after.isdisjoint(before)


@pytest.mark.parametrize(
    "arguments",
    [["--tag", "pages"], ["--pattern", "*/p/*"], ["--all"], ["--prefix", "proxyd.test/p/2"]],
    ids=lambda arguments: arguments[0],
)
def test_each_kind_of_purge_reaches_what_it_names(arguments: list[str], cached: Daemon) -> None:
    before = on_every_worker(cached, "/p/2")
    tool(cached, "cache", "purge", *arguments)
    assert on_every_worker(cached, "/p/2").isdisjoint(before)


def test_a_purge_request_reaches_every_worker(cached: Daemon) -> None:
    before = on_every_worker(cached, "/p/3")
    answer = cached.ask("/p/3", method="PURGE")
    assert json.loads(answer.body)["purged"][0] == {"kind": "url", "what": f"{SITE}/p/3"}
    assert on_every_worker(cached, "/p/3").isdisjoint(before)
    answer = cached.ask("/", "Surrogate-Key: pages", "Fastly-Soft-Purge: 1", method="PURGE")
    assert json.loads(answer.body) == {
        "mode": "soft",
        "purged": [{"kind": "tag", "what": "pages"}],
    }


def test_stats_and_ls_know_the_memory_of_the_workers(cached: Daemon) -> None:
    on_every_worker(cached, "/p/4")
    stats = json.loads(tool(cached, "cache", "stats", "--json"))
    assert len(stats["memory"]) == WORKERS
    assert sum(worker["hits"] for worker in stats["memory"]) > 0
    (found,) = json.loads(
        tool(cached, "cache", "ls", "*proxyd.test/p/4", "--sort", "hits", "--json")
    )
    assert found["key"] == f"{SITE}/p/4"
    assert found["hits"] > 0
    assert "worker" in found["where"]
    assert "worker 1" in tool(cached, "cache", "stats")
    assert "/p/4" in tool(cached, "cache", "ls", "--limit", "100")


def test_show_and_explain_say_what_is_stored_and_why(cached: Daemon) -> None:
    cached.ask("/p/5")
    assert "Surrogate-Key: pages" in tool(cached, "cache", "show", f"{SITE}/p/5")  # at once
    wait_for(
        lambda: ", on disk" in tool(cached, "cache", "show", f"{SITE}/p/5"), "the entry on the disk"
    )
    told = json.loads(tool(cached, "cache", "show", f"{SITE}/p/5", "--json"))
    assert told["outcome"]["text"].startswith("A hit: 200")
    assert "A hit: 200" in tool(cached, "explain", f"{SITE}/p/5", "--fetch")
    said = json.loads(tool(cached, "explain", f"{SITE}/me", "--fetch", "--json"))
    assert said["outcome"]["text"].endswith("the answer is for a single user.")


def test_show_and_explain_see_what_is_in_memory_alone(app: App) -> None:
    text = CONFIGURATION.replace("{port}", str(app.server_address[1]))
    with serving(text.replace('"64MiB"', '"0"'), workers=WORKERS) as daemon:
        url = f"{SITE}/p/7?\N{LATIN SMALL LETTER E WITH ACUTE}"
        path = "/p/7?%C3%A9"
        assert "nothing, on disk or in memory" in tool(daemon, "explain", url)
        on_every_worker(daemon, path)
        told = json.loads(tool(daemon, "cache", "show", url, "--json"))
        (stored,) = [step for step in told["steps"] if step["title"] == "Stored"]
        assert "in the memory of worker" in stored["verdict"]
        assert "Surrogate-Key: pages" in tool(daemon, "cache", "show", url)
        assert told["outcome"]["text"] == "A hit: 200 from the cache at once."
        tool(daemon, "cache", "purge", url, "--soft")
        assert "a soft purge has made it stale" in tool(daemon, "explain", url)
        tool(daemon, "cache", "purge", url)
        assert "A miss" in tool(daemon, "explain", url)
        daemon.stop()
        assert "no proxyd runs" in tool(daemon, "explain", url)


def test_what_is_wrong_is_said_in_a_sentence(cached: Daemon) -> None:
    assert "http://HOST/p" in tool(cached, "explain", "/p", code=1)
    assert "say what" in tool(cached, "cache", "purge", code=1)


def test_purges_work_without_a_daemon_and_warm_does_not(app: App) -> None:
    with serving(CONFIGURATION.replace("{port}", str(app.server_address[1]))) as daemon:
        url = f"{SITE}/p/6"
        first = daemon.ask("/p/6").body
        daemon.stop()
        assert "made stale" in tool(daemon, "cache", "purge", url, "--soft")
        assert "no proxyd runs" in tool(daemon, "cache", "stats")
        assert "no proxyd runs" in tool(daemon, "cache", "warm", "-", code=1, given=url)
        assert "soft purge" in tool(daemon, "explain", url)
        assert first
