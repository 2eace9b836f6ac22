"""Requests that hang in the application, and those that wait behind them."""

from collections.abc import Callable

import pytest

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
        with running.connect() as second:
            second.get("/left")
            assert running.ask("/static/page.html").status == 200
        assert running.access("/left")["status"] == 499
        (running.folder / "gate").touch()
        assert first.message().body == b"let go"
    assert running.ask_json("/seen") == ["/hold/gate", "/seen"]
    end(running)
