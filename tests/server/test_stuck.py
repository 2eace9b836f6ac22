"""Requests that hang in the application, and those that wait behind them."""

import re
from collections.abc import Callable

import pytest

from tests.process.running import alive, wait_for
from tests.server.daemon import Daemon

Start = Callable[..., Daemon]

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
wsgi = "application:app"
{more}
[[route]]
path = "/patient/*"
to = "flask"
strip_prefix = true
read_timeout = "60s"
[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/*"
to = "flask"
"""


def site(*more: str) -> str:
    return SITE.replace("{more}", "\n".join(more))


def end(running: Daemon) -> None:
    assert running.stop() == 0
    running.check_clean()


@pytest.mark.parametrize("server", ["waitress", "gevent"])
def test_a_request_that_hangs_is_a_504_and_its_stack_is_in_the_log(
    start: Start, server: str
) -> None:
    running = start(site('read_timeout = "500ms"', f'server = "{server}"'))
    with running.connect() as patient:
        patient.get("/patient/hold/late")
        assert running.ask("/hold/never").status == 504
        log = running.wait_for_log("time.sleep(0.02)")
        assert "app flask: GET /hold/never has produced nothing for 0.5 s and hangs" in log
        (running.folder / "late").touch()
        assert patient.message().body == b"let go"
    assert "/hold/late has produced nothing" not in running.log
    (running.folder / "never").touch()
    running.wait_for_log("GET /hold/never has come to an end")
    end(running)


@pytest.mark.parametrize("server", ["waitress", "gevent"])
def test_who_dribbles_is_cut_off_after_its_total_time_and_its_stack_is_in_the_log(
    start: Start, server: str
) -> None:
    running = start(site('total_timeout = "1s"', f'server = "{server}"'))
    with running.connect() as wire, running.connect() as events:
        events.get("/dribble/event-stream", "Connection: close")
        assert events.head().status == 200
        wire.get("/dribble/plain")
        assert wire.head().status == 200
        assert not wire.rest().endswith(b"0\r\n\r\n")
        running.wait_for_log("was not done after 1 s; raise total_timeout")
        log = running.wait_for_log("in stream")
        assert re.search(r"GET /dribble/plain is not done after \S+ s \(total_timeout\)", log)
        events.sock.settimeout(0.5)
        assert events.sock.recv(100)  # who listens to events goes on doing so
        (running.folder / "enough").touch()
        events.sock.settimeout(20)
        assert events.rest().endswith(b"0\r\n\r\n")
    assert running.ask("/patient/hold/enough").status == 200
    assert running.ask("/hold/never").status == 504
    (running.folder / "never").touch()
    end(running)


@pytest.mark.parametrize(
    "more",
    [
        ("max_connections = 1",),  # it waits in the worker
        ("max_connections = 3",),  # … and here in the application's process
        ("max_connections = 3", 'server = "gevent"'),
        ("max_connections = 3", 'server = "werkzeug"'),
    ],
)
def test_what_waits_is_not_begun_when_its_client_has_left(
    start: Start, more: tuple[str, ...]
) -> None:
    running = start(site("threads = 1", *more))
    with running.connect() as first:
        first.get("/hold/gate")
        wait_for((running.folder / "gate.begun").exists, "the request before it")
        with running.connect() as second:
            second.get("/left")
            assert running.ask("/static/page.html").status == 200
        assert running.access("/left")["status"] == 499
        (running.folder / "gate").touch()
        assert first.message().body == b"let go"
    seen = running.ask_json("/seen")
    assert "/hold/gate" in seen
    assert "/left" not in seen
    end(running)


def test_a_process_in_which_too_many_hang_is_replaced(start: Start) -> None:
    running = start(site('read_timeout = "500ms"', "threads = 4", "stuck_threads = 2"))
    first = running.ask("/pid").body
    with running.connect() as patient:
        patient.get("/patient/hold/late")
        assert running.ask("/hold/one").status == 504
        assert running.ask("/pid").body == first
        assert running.ask("/hold/two").status == 504
        running.wait_for_log("2 of its requests hang (stuck_threads)")
        running.wait_for_log("app flask has a new process")
        assert running.ask("/pid").body != first
        (running.folder / "late").touch()
        assert patient.message().body == b"let go"  # by the old one
    wait_for(lambda: not alive(int(first)), "the end of the old process")
    end(running)
