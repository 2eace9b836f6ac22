"""Processes that die, and signals: what runs, what is started again, and what ends."""

import json
import os
import signal
from collections.abc import Callable

import pytest

from tests.process.running import alive, wait_for
from tests.server.daemon import Daemon
from tests.server.upstream import Upstream

Start = Callable[..., Daemon]

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
wsgi = "application:app"
threads = 2
[upstream.test]
servers = ["127.0.0.1:{port}"]
[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/test/*"
to = "test"
[[route]]
path = "/*"
to = "flask"
"""


def site(listening: Upstream) -> str:
    return SITE.replace("{port}", str(listening.port))


def application_pid(running: Daemon) -> int | None:
    """Return the pid of the process that answers, None while none does."""
    answer = running.ask("/pid")
    assert answer.status in {200, 502, 503, 504}
    return int(answer.body) if answer.status == 200 else None


def test_an_application_that_is_killed_is_started_again(start: Start, listening: Upstream) -> None:
    running = start(site(listening))
    first = application_pid(running)
    assert first == running.pid("app flask")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: application_pid(running) not in {None, first}, "the application to be back")
    assert f"app flask (pid {first}) ended: killed by SIGKILL" in running.log
    assert running.stop() == 0
    running.check_clean()


def test_a_worker_that_is_killed_is_started_again(start: Start, listening: Upstream) -> None:
    running = start(site(listening))
    os.kill(running.pid("worker 1"), signal.SIGKILL)
    # Whoever connects now waits in the listening socket, which the master holds.
    assert running.ask("/static/page.html").status == 200
    assert running.ask("/pid").status == 200
    assert running.stop() == 0
    running.check_clean()


def test_ctrl_c_ends_every_process(start: Start, listening: Upstream) -> None:
    running = start(site(listening), workers=2)
    busy = [running.connect() for _ in range(4)]
    for wire in busy[:2]:
        wire.get("/events/never")
        assert wire.head().status == 200
    os.killpg(running.process.pid, signal.SIGINT)  # what a terminal does
    assert running.process.wait(timeout=20) == 0
    running.check_clean()
    for wire in busy:
        wire.close()


def test_every_process_ends_with_a_master_that_is_killed(start: Start, listening: Upstream) -> None:
    running = start(site(listening))
    running.kill()
    wait_for(lambda: not any(map(alive, running.pids)), "the end of every process")


def test_a_graceful_stop_lets_requests_in_progress_finish(
    start: Start, listening: Upstream
) -> None:
    running = start(site(listening))
    with running.connect() as wire, running.connect() as idle:
        wire.get("/test/in-progress")
        behind = listening.accept()
        behind.message()
        idle.get("/static/page.html")
        assert idle.message().status == 200
        running.process.send_signal(signal.SIGQUIT)
        assert idle.ended()
        behind.answer(b"finished")
        answer = wire.message()
        assert answer.body == b"finished"
        assert answer.get("connection") == "close"
    assert running.process.wait(timeout=20) == 0
    running.check_clean()
    listening.forget()


def test_every_worker_serves(start: Start, listening: Upstream) -> None:
    running = start(site(listening), workers=2)
    wires = [running.connect() for _ in range(40)]
    for wire in wires:
        wire.get("/pid")
    assert {wire.message().body for wire in wires} == {str(running.pid("app flask")).encode()}
    for wire in wires:
        wire.close()
    assert running.stop() == 0
    running.check_clean()


def test_what_the_application_raises_is_in_the_log_and_not_in_the_answer(daemon: Daemon) -> None:
    since = len(daemon.log)
    answer = daemon.ask("/error")
    assert answer.status == 500
    assert b"secret" not in answer.body
    log = daemon.wait_for_log("RuntimeError: the secret reason", since)
    assert "app flask: Traceback" in log


def test_a_rotated_log_is_left_alone(daemon: Daemon) -> None:
    assert daemon.ask("/static/page.html?before").status == 200
    daemon.access("/static/page.html?before")
    path = daemon.folder / "access.log"
    rotated = path.rename(path.with_suffix(".1"))
    size = rotated.stat().st_size
    since = len(daemon.log)
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.wait_for_log("logs reopened", since)
    wait_for(path.exists, "a new access log")
    assert daemon.ask("/static/page.html?after").status == 200
    daemon.access("/static/page.html?after")
    assert rotated.stat().st_size == size


def test_no_request_forges_a_line_of_the_access_log(daemon: Daemon) -> None:
    forged = 'a" 200 1\\r\\n127.0.0.1 - - "GET /forged'
    assert daemon.ask("/static/page.html?forging", f"User-Agent: {forged}").status == 200
    assert daemon.access("/static/page.html?forging")["user_agent"] == forged
    lines = (daemon.folder / "access.log").read_text().splitlines()
    assert all(json.loads(line)["target"] != "/forged" for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_and_a_stop_leave_nothing(start: Start, listening: Upstream, workers: int) -> None:
    running = start(site(listening), workers=workers, control=True)
    assert running.ask("/whoami").status == 200
    assert running.stop(signal.SIGTERM) == 0
    running.check_clean()
    assert "ERROR" not in running.log
