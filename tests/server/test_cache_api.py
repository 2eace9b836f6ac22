"""The cache by the admin API of a running daemon: what it says is so on both workers."""

import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.process.running import wait_for
from tests.server.caching import bodies, configuration, is_hit, on_both, origin
from tests.server.daemon import Daemon, serving
from tests.server.origin import Answer, Asked, Origin
from tests.server.test_control import CHANGES, ask

__all__ = ["origin"]  # a fixture

pytestmark = pytest.mark.timeout(120)

# As the requests of `Daemon.ask` name it.
SITE = "http://proxyd.test"
GRACE = '[[route]]\npath = "/grace/*"\nto = "origin"\n[route.cache]\nstale_if_error = "1h"\n'


@pytest.fixture(scope="module")
def cached(origin: Origin) -> Iterator[Daemon]:
    origin.on("/tagged", numbered("Cache-Tag: red"))
    origin.on("/greeting", numbered("Vary: Accept-Language"))
    with serving(configuration(origin, routes=GRACE), control=True) as daemon:
        wait_for_control(daemon)
        yield daemon
        assert daemon.stop() == 0
        daemon.check_clean()


def wait_for_control(daemon: Daemon) -> None:
    """Wait for the control process, which nothing else waits for."""
    wait_for(lambda: ask(daemon, "/health/ready").status == 200, "the control process", 60)


def numbered(*fields: str) -> Any:
    def answer(asked: Asked) -> Answer:
        return Answer(
            f"{asked.target} {asked.number}".encode(),
            ("Cache-Control: public, max-age=600", *fields),
        )

    return answer


def get(daemon: Daemon, path: str) -> Any:
    answered = ask(daemon, f"/api/cache/{path}")
    assert answered.status == 200, answered.body
    return answered.json


def post(daemon: Daemon, path: str, code: int = 200, **content: Any) -> Any:
    answered = ask(daemon, f"/api/cache/{path}", "POST", headers=CHANGES, body=content)
    assert answered.status == code, answered.body
    return answered.json


def stored_step(told: Any) -> Any:
    return next(step["verdict"] for step in told["steps"] if step["title"] == "Stored")


@pytest.mark.parametrize(
    ("target", "wish"),
    [
        ("/api/one", {"urls": [f"{SITE}/api/one"]}),
        ("/api/deep/1", {"prefixes": ["proxyd.test/api/deep/"]}),
        ("/api/a.css", {"patterns": ["*/api/*.css"]}),
        ("/tagged", {"tags": ["red"]}),
        ("/api/any", {"all": True}),
    ],
)
def test_each_kind_of_purge_reaches_both_workers(
    cached: Daemon, origin: Origin, target: str, wish: dict[str, Any]
) -> None:
    before = bodies(on_both(cached, target))
    assert len(before) == 1
    (said, *_more) = post(cached, "purge", **wish)["done"]
    assert said.startswith("purged: ")
    assert bodies(on_both(cached, target)).isdisjoint(before)
    assert origin.count(target) == 2


def test_a_soft_purge_leaves_what_helps_when_the_application_is_down(
    cached: Daemon, origin: Origin
) -> None:
    assert cached.ask("/grace/1").body == b"/grace/1 1"
    said = post(cached, "purge", urls=[f"{SITE}/grace/1"], soft=True)["done"]
    assert all(line.startswith("made stale: url") for line in said)
    told = get(cached, f"show?url={SITE}/grace/1")
    facts = [fact["text"] for step in told["steps"] for fact in step["facts"]]
    assert "a soft purge has made it stale" in facts
    origin.stop()
    try:
        assert bodies(on_both(cached, "/grace/1")) == {b"/grace/1 1"}
    finally:
        origin.start()
    wait_for(lambda: cached.ask("/back").status == 200, "the application to be back")


def test_show_tells_variants_apart_by_the_fields_that_are_given(cached: Daemon) -> None:
    cached.ask("/greeting", "Accept-Language: de")
    url = f"show?url={SITE}/greeting"
    told = get(cached, f"{url}&header={quote('Accept-Language: de')}")
    assert "in the memory of worker" in stored_step(told)
    assert told["outcome"]["text"] == "A hit: 200 from the cache at once."
    told = get(cached, f"{url}&header={quote('Accept-Language: fr')}")
    assert stored_step(told) == "only variants for other requests"
    assert "fwd=vary-miss" in told["outcome"]["text"]


def test_stats_and_ls_know_memory_and_disk(cached: Daemon) -> None:
    for target in ("/listed/1", "/listed/2") * 2:
        on_both(cached, target)
    wait_for(lambda: len(on_disk(cached)) == 2, "what the keeper enters into the catalogue")
    for one in get(cached, "ls?pattern=*/listed/*&sort=hits")["entries"]:
        assert one["hits"] > 0
        assert "worker" in one["where"]
    assert len(get(cached, "ls?pattern=*/listed/*&limit=1")["entries"]) == 1
    stats = get(cached, "stats")
    assert len(stats["memory"]) == 2
    assert stats["disk"]["disk_bytes"] > 0


def on_disk(cached: Daemon) -> list[str]:
    listed = get(cached, "ls?pattern=*/listed/*")["entries"]
    return [one["key"] for one in listed if "disk" in one["where"]]


def test_warm_stores_a_list_and_a_sitemap(cached: Daemon, origin: Origin) -> None:
    places = [f"{cached.url}/warm/{number}" for number in range(5)]
    listed = "".join(f"<url><loc>{place}</loc></url>" for place in [*places, f"{cached.url}/own"])
    sitemap = f"<urlset>{listed}</urlset>".encode()
    origin.on("/sitemap.xml", lambda _: Answer(sitemap, ("Cache-Control: no-store",)))
    origin.on("/own", lambda _: Answer(b"", ("Cache-Control: private",)))
    said = post(cached, "warm", urls=places[:2], parallel=2, headers=["Accept-Language: de"])
    assert said == {"counts": {"stored": 2}, "not_stored": []}
    assert origin.last("/warm/0").fields["accept-language"] == "de"
    said = post(cached, "warm", sitemap=f"{cached.url}/sitemap.xml")
    assert said["counts"] == {"hit": 2, "stored": 3, "not stored": 1}
    assert said["not_stored"][0]["url"] == f"{cached.url}/own"
    host = cached.url.removeprefix("http://")
    assert all(is_hit(answer) for answer in on_both_of(cached, host, "/warm/4"))


def on_both_of(daemon: Daemon, host: str, target: str) -> Any:
    """Ask under the name that the URLs of the list have."""
    answers = []
    for _ in range(12):
        with daemon.connect() as wire:
            wire.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            answers.append(wire.message())
    return answers


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("warm", {}, "say what"),
        ("warm", {"sitemap": "/etc/passwd"}, "is no URL"),
        ("warm", {"urls": ["/a"]}, "write all of it"),
        ("warm", {"urls": [f"{SITE}/a"], "parallel": 1000}, "<= 64"),
        ("warm", {"urls": [f"{SITE}/a"], "headers": ["nonsense"]}, "is no field"),
        ("warm", {"sitemap": "http://127.0.0.1/x", "urls": [], "fast": True}, "fast"),
        ("purge", {}, "say what"),
        ("purge", {"prefixes": ["/a"]}, "names no host"),
    ],
)
def test_what_is_wrong_is_said(
    cached: Daemon, path: str, content: dict[str, Any], said: str
) -> None:
    assert said in post(cached, path, 400, **content)["error"]


def test_one_warming_at_a_time_and_it_holds_up_no_stop(origin: Origin) -> None:
    gate = origin.gate()
    origin.on("/slow/", lambda _: Answer(b"", hold=gate))
    with serving(configuration(origin), control=True) as daemon:
        wait_for_control(daemon)
        urls = [f"{daemon.url}/slow/{number}" for number in range(50)]
        warming: list[Any] = []
        thread = threading.Thread(
            target=lambda: warming.append(post(daemon, "warm", urls=urls, parallel=1))
        )
        thread.start()
        wait_for(lambda: origin.count("/slow/0"), "the first request")
        assert "being warmed" in post(daemon, "warm", 409, urls=urls)["error"]
        gate.open()
        thread.join(20)
        assert json.dumps(warming) == '[{"counts": {"stored": 50}, "not_stored": []}]'
        held = origin.gate()
        origin.on("/held/", lambda _: Answer(b"", hold=held))
        thread = threading.Thread(target=end_of, args=(daemon, f"{daemon.url}/held/1"))
        thread.start()
        wait_for(lambda: origin.count("/held/1"), "the request")
        assert daemon.process.poll() is None
        daemon.process.terminate()
        held.open()
        assert daemon.process.wait(20) == 0
        thread.join(20)
        daemon.check_clean()


def end_of(daemon: Daemon, url: str) -> None:
    """Warm, whatever becomes of it."""
    try:
        ask(daemon, "/api/cache/warm", "POST", headers=CHANGES, body={"urls": [url] * 1000})
    except (OSError, EOFError):
        return
