"""The control process of a real daemon: over its unix socket, and over TCP with a token."""

import http.client
import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.process.running import UnixConnection, alive, wait_for
from tests.server.daemon import Daemon, serving

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
path = "/*"
to = "flask"
[route.cache]
default_ttl = "60s"
"""
CHANGES = {"Proxyd-Control": "1"}


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def over(
    connection: http.client.HTTPConnection,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: object = None,
) -> Answer:
    fields = dict(headers or {})
    content = None
    if body is not None:
        content = json.dumps(body)
        fields.setdefault("Content-Type", "application/json")
    connection.request(method, path, body=content, headers=fields)
    response = connection.getresponse()
    answer = Answer(response.status, response.read(), dict(response.getheaders()))
    connection.close()
    return answer


def ask(running: Daemon, path: str, method: str = "GET", **how: Any) -> Answer:
    return over(UnixConnection(socket_of(running)), path, method, **how)


def socket_of(running: Daemon) -> Path:
    return running.folder / "var" / "control.sock"


def control_pid(running: Daemon) -> int | None:
    processes = ask(running, "/api/status").json["generations"][0]["processes"]
    pid: int | None = next(each["pid"] for each in processes if each["name"] == "control")
    return pid


def answers(running: Daemon) -> bool:
    try:
        return ask(running, "/health/live").status == 200
    except OSError:
        return False


def test_health_metrics_and_status_are_told(start: Start) -> None:
    running = start(SITE, control=True)
    assert running.ask("/static/page.html").status == 200
    assert running.ask("/pid").status == 200
    assert stat.S_IMODE(socket_of(running).stat().st_mode) == 0o600
    wait_for(lambda: answers(running), "the control process")
    assert ask(running, "/health/ready").json == {"status": "ready", "missing": []}
    counted = b'proxyd_requests_total{code="2xx",method="GET",route="/static/*"} 1.0'
    wait_for(lambda: counted in ask(running, "/metrics").body, "the request in the metrics")
    metrics = ask(running, "/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert b'proxyd_process_up{process="app flask"} 1.0' in metrics.body
    assert b'proxyd_cache_entries{store="disk"}' in metrics.body
    status = ask(running, "/api/status").json
    assert status["generations"][0]["number"] == 1
    assert status["traffic"]["requests"] == 2
    assert status["traffic"]["upstreams"][0]["name"] == "flask"
    assert running.stop() == 0
    running.check_clean()


def test_what_is_wrong_is_said_in_json(start: Start) -> None:
    running = start(SITE, control=True)
    wait_for(lambda: answers(running), "the control process")
    assert "/metrics" in ask(running, "/nothing").json["error"]
    get = ask(running, "/api/reload")
    assert (get.status, get.json) == (405, {"error": "method not allowed; use POST"})
    plain = ask(running, "/api/reload", "POST")
    assert plain.status == 403
    assert "Proxyd-Control: 1" in plain.json["error"]
    from_a_page = ask(running, "/api/status", headers={"Origin": "http://evil.test"})
    assert from_a_page.status == 403
    assert "Access-Control-Allow-Origin" not in from_a_page.headers
    assert from_a_page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    wrong = ask(running, "/api/stop", "POST", headers=CHANGES, body={"soon": True})
    assert wrong.status == 400
    assert "soon" in wrong.json["error"]
    form = ask(
        running, "/api/stop", "POST", headers={**CHANGES, "Content-Type": "text/plain"}, body={}
    )
    assert form.status == 415
    assert running.stop() == 0
    running.check_clean()


def test_a_reload_is_answered_by_the_process_that_it_ends(start: Start) -> None:
    running = start(SITE, control=True)
    wait_for(lambda: answers(running), "the control process")
    before = control_pid(running)
    done = ask(running, "/api/reload", "POST", headers=CHANGES)
    assert (done.status, done.json["generation"]) == (200, 2)
    wait_for(lambda: control_pid(running) != before, "the control process of the new generation")
    (running.folder / "proxy.toml").write_text("nonsense = 1")
    failed = ask(running, "/api/reload", "POST", headers=CHANGES)
    assert failed.status == 409
    assert "what runs goes on" in failed.json["error"]
    assert running.stop() == 0


def test_a_stop_is_under_way_when_it_is_answered(start: Start) -> None:
    running = start(SITE, control=True)
    wait_for(lambda: answers(running), "the control process")
    assert ask(running, "/api/stop", "POST", headers=CHANGES).status == 202
    assert running.process.wait(timeout=20) == 0
    running.check_clean()
    assert not socket_of(running).exists()


def test_the_cache_is_shown_and_purged(start: Start) -> None:
    running = start(SITE, control=True)
    wait_for(lambda: answers(running), "the control process")
    url = f"{running.url}/length"
    stats = ask(running, "/api/cache/stats").json
    assert len(stats["memory"]) == 1
    assert ask(running, "/api/cache/ls?limit=5").json["trouble"] == ""
    assert ask(running, f"/api/cache/show?url={url}").json["request"] == f"GET {url}"
    purged = ask(running, "/api/cache/purge", "POST", headers=CHANGES, body={"all": True})
    assert purged.json["done"][0].startswith("purged: all")
    for path, said in [
        ("/api/cache/ls?sort=colour", "size, age, hits"),
        ("/api/cache/ls?limit=0", "from 1 to"),
        ("/api/cache/show", "show?url="),
        ("/api/cache/show?url=/a", "write all of it"),
    ]:
        answer = ask(running, path)
        assert answer.status == 400
        assert said in answer.json["error"]
    nothing = ask(running, "/api/cache/purge", "POST", headers=CHANGES)
    assert nothing.status == 400
    assert running.stop() == 0
    running.check_clean()


def test_one_that_is_killed_is_started_again_and_traffic_does_not_notice(start: Start) -> None:
    running = start(SITE, control=True)
    wait_for(lambda: answers(running), "the control process")
    first = control_pid(running)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert running.ask("/static/page.html").status == 200
    wait_for(lambda: answers(running) and control_pid(running) != first, "another one")
    assert running.stop(signal.SIGQUIT) == 0
    assert not alive(first)
    running.check_clean()


def test_it_can_be_left_out(start: Start) -> None:
    running = start('[control]\naddress = "off"\n' + SITE)
    assert not socket_of(running).exists()
    assert running.stop() == 0
    running.check_clean()


@pytest.mark.parametrize("in_file", [False, True])
def test_on_tcp_nobody_is_answered_without_the_token(start: Start, in_file: bool) -> None:
    token = "0123456789abcdef0123"
    with serving(SITE + '[control]\naddress = "off"\n') as running:
        path = running.folder / "token"
        path.write_text(token + "\n")
        path.chmod(0o644)
        key = 'token_file = "token"' if in_file else f'token = "{token}"'
        text = (running.folder / "proxy.toml").read_text()
        port = free_port()
        text = text.replace('address = "off"', f'address = "127.0.0.1:{port}"\n{key}')
        (running.folder / "proxy.toml").write_text(text)
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_log("generation 2 serves")
        assert ("everybody may read the token" in running.log) == in_file
        bearer = {"Authorization": f"Bearer {token}"}

        def asked(headers: dict[str, str]) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            return over(connection, "/health/live", headers=headers).status

        wait_for(lambda: asked(bearer) == 200, "an answer on TCP")
        assert asked({}) == 401
        assert asked({**bearer, "Host": "evil.test"}) == 421
        assert running.stop() == 0
        running.check_clean()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
