"""Applications that are asked how they are, recycled, and run by other servers: nothing is lost."""

import os
import select
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.process.running import alive, wait_for
from tests.server.daemon import Daemon
from tests.server.stress import command, pids

Start = Callable[..., Daemon]

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
{app}
[[route]]
path = "/*"
to = "flask"
"""
FLASK = 'wsgi = "application:app"\nthreads = 4\n'


def site(lines: str, app: str = FLASK) -> str:
    return SITE.replace("{app}", app + lines)


@dataclass
class Posts:
    """What came of requests that proxyd must not repeat."""

    statuses: Counter[int] = field(default_factory=Counter)
    pids: set[int] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)


@contextmanager
def posting(running: Daemon, target: str, clients: int = 4) -> Iterator[Posts]:
    """Post to one target again and again; the application answers with its pid."""
    posts = Posts()
    stopping = threading.Event()

    def post() -> None:
        try:
            with running.connect() as wire:
                while not stopping.wait(0.002):
                    wire.get(target, method="POST", body=b"x")
                    message = wire.message()
                    posts.statuses[message.status] += 1
                    if message.status == 200:
                        posts.pids.add(int(message.body))
        except (OSError, EOFError, AssertionError) as error:
            posts.failures.append(repr(error))

    threads = [threading.Thread(target=post) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield posts
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("lines", ["max_requests = 40", 'max_age = "1s"'])
def test_a_process_that_is_recycled_loses_no_request(
    start: Start, lines: str, workers: int
) -> None:
    running = start(site(lines), workers=workers)
    with posting(running, "/echo-pid") as posts:
        wait_for(lambda: len(posts.pids) >= 4, "three successors", 60)
    assert posts.failures == []
    assert posts.statuses.keys() == {200}
    assert lines.split(maxsplit=1)[0] in running.log
    wait_for(lambda: sum(map(alive, posts.pids)) <= 2, "the end of the former processes")
    assert running.stop() == 0
    assert not any(map(alive, posts.pids))
    assert "ERROR" not in running.log
    running.check_clean()


def test_a_request_under_way_is_finished_by_the_process_that_leaves(start: Start) -> None:
    running = start(site('max_age = "1s"'))
    with posting(running, "/slow") as posts:
        wait_for(lambda: len(posts.pids) >= 3, "two successors", 60)
    assert posts.statuses.keys() == {200}
    assert posts.failures == []


def test_a_process_that_takes_too_much_memory_is_replaced(start: Start) -> None:
    running = start(site('max_memory = "90MiB"\nreadiness = { path = "/health" }'))
    with posting(running, "/echo-pid") as posts:
        first = int(running.ask("/grow", method="POST").body)
        wait_for(lambda: posts.pids - {first}, "a successor", 60)
        assert "(max_memory)" in running.log
    assert posts.statuses.keys() == {200}
    assert posts.failures == []


def test_a_process_that_fails_its_liveness_is_replaced(start: Start) -> None:
    alive_lines = 'liveness = { path = "/health", interval = "200ms", timeout = "5s", fall = 2 }'
    running = start(site(alive_lines))
    with posting(running, "/echo-pid") as posts:
        first = int(running.ask("/fall-ill", method="POST").body)
        wait_for(lambda: posts.pids - {first}, "a successor", 60)
    assert posts.statuses.keys() == {200}
    assert "it answered GET /health with 503, 2 times (liveness)" in running.log
    wait_for(lambda: not alive(first), "the end of the one that was ill")


def test_a_process_gets_no_request_before_it_is_ready(start: Start) -> None:
    running = start(site('readiness = { path = "/ready" }'))
    (first,) = pids(running, "app")
    unready = running.folder / "unready"
    unready.touch()
    os.kill(first, signal.SIGKILL)
    running.wait_for_log("flask starts again")
    with running.connect() as wire:
        wire.get("/echo-pid", method="POST", body=b"x")
        wire.sock.settimeout(1.5)
        with pytest.raises(TimeoutError):
            wire.message()
        unready.unlink()
        wire.sock.settimeout(20)
        assert int(wire.message().body) != first


def test_so_many_wait_for_an_application_and_so_long(start: Start) -> None:
    lines = 'readiness = { path = "/ready" }\nqueue = 2\nqueue_timeout = "2s"\n'
    running = start(site(lines))
    unready = running.folder / "unready"
    unready.touch()
    os.kill(pids(running, "app")[0], signal.SIGKILL)
    running.wait_for_log("flask starts again")
    began_at = time.monotonic()
    with ExitStack() as stack:
        waiting = {}
        for number in range(5):  # each of its own, for equal ones wait for the first
            wire = stack.enter_context(running.connect())
            wire.get(f"/pid?{number}")
            waiting[wire.sock] = wire
        answers = []
        while waiting:
            for sock in select.select(waiting, [], [], 20)[0]:
                answer = waiting.pop(sock).message()
                assert (answer.status, answer.get("retry-after")) == (503, "1")
                answers.append(time.monotonic() - began_at)
    # Three found the queue full, two waited in it for as long as they may.
    assert [after_s >= 2 for after_s in answers] == [False, False, False, True, True]
    assert "; 2 requests wait for it, as many as `queue` lets" in running.log
    assert "that did not change within 2 s" in running.log
    unready.unlink()
    assert running.ask("/pid").status == 200


def test_a_process_that_is_not_ready_any_more_is_passed_over(start: Start) -> None:
    running = start(
        site('processes = 2\nreadiness = { path = "/health", interval = "100ms", fall = 2 }')
    )
    ill = int(running.ask("/fall-ill", method="POST").body)
    running.wait_for_log("is not ready")
    with posting(running, "/echo-pid", 1) as posts:
        wait_for(lambda: posts.statuses[200] >= 20, "answers")
    assert ill not in posts.pids
    assert posts.statuses.keys() == {200}
    assert alive(ill)


TINY = """
import http.server, os, threading, time
busy = []
peak = 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        global peak
        busy.append(self)
        peak = max(peak, len(busy))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/busy":
            time.sleep(0.05)
        body = str(peak if self.path == "/peak" else os.getpid()).encode()
        busy.remove(self)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_):
        print("asked", flush=True)
place = ("127.0.0.1", int(os.environ["AT"]))
http.server.ThreadingHTTPServer(place, Handler).serve_forever()
"""
GUNICORN = (
    f'venv = "{sys.prefix}"\n'
    'command = ["gunicorn", "--bind", "unix:{socket}", "--threads", "4", "--keep-alive", "60",'
    ' "application:app"]\n'
)
OWN = f"command = ['{sys.executable}', '-c', '''{TINY}''']\nenv = {{ AT = \"{{port}}\" }}\n"


VENV = f'venv = "{sys.prefix}"\n'
OTHERS = {
    "gunicorn": GUNICORN,
    "gunicorn, port": f'{VENV}command = ["gunicorn", "--bind", "127.0.0.1:{{port}}", "--threads",'
    ' "4", "--keep-alive", "60", "application:app"]\n',
    "uvicorn": f'{VENV}command = ["uvicorn", "--uds", "{{socket}}", "application:asgi"]\n',
    "uvicorn, port": f'{VENV}command = ["uvicorn", "--port", "{{port}}", "application:asgi"]\n',
    "hypercorn": f'{VENV}command = ["hypercorn", "--bind", "unix:{{socket}}",'
    ' "application:asgi"]\n',
    "hypercorn, port": f'{VENV}command = ["hypercorn", "--bind", "127.0.0.1:{{port}}",'
    ' "application:asgi"]\n',
    "its own, port": OWN,
}


@pytest.mark.timeout(120)  # of four starts each
@pytest.mark.parametrize("server", OTHERS.values(), ids=OTHERS.keys())
def test_another_server_is_started_watched_recycled_and_ended(start: Start, server: str) -> None:
    running = start(site('max_age = "2s"\n', server))
    (first,) = pids(running, "app")
    with posting(running, "/echo-pid") as posts:
        wait_for(lambda: len(posts.pids) >= 3, "two successors", 60)
    assert posts.failures == []
    assert posts.statuses.keys() == {200}
    wait_for(lambda: not alive(first), "the end of the first one")
    assert "app flask: " in running.log
    (now,) = pids(running, "app")
    os.kill(now, signal.SIGKILL)
    running.wait_for_log("killed by SIGKILL")
    assert running.ask("/echo-pid", method="POST", body=b"x").status == 200
    assert running.stop() == 0
    running.check_clean()


@pytest.mark.parametrize(("workers", "most"), [(1, 5), (2, 6)])
def test_a_process_never_has_more_requests_than_threads_and_a_small_queue(
    start: Start, workers: int, most: int
) -> None:
    running = start(site("threads = 3\n", OWN), workers=workers)
    with posting(running, "/busy", clients=24) as posts:
        wait_for(lambda: posts.statuses[200] >= 120, "answers", 60)
    assert posts.statuses.keys() == {200}
    assert 3 <= int(running.ask("/peak").body) <= most


@pytest.mark.parametrize("server", ["waitress", "gevent", "werkzeug"])
def test_an_application_knows_the_path_below_which_it_lives(start: Start, server: str) -> None:
    lines = f'server = "{server}"\nmount = "/shop"\nreadiness = {{ path = "/health" }}'
    text = site(lines).replace('path = "/*"', 'path = "/shop/*"')
    running = start(text)
    forged = ("X-Forwarded-Prefix: /evil", "X_Forwarded_Prefix: /evil", "Script-Name: /evil")
    for lines_sent in ((), forged):
        seen = running.ask_json("/shop/whoami", *lines_sent)
        assert (seen["script_root"], seen["path"]) == ("/shop", "/whoami")
        assert seen["external"] == "http://proxyd.test/shop/whoami"
    assert running.ask("/whoami").status == 404


def test_an_application_has_its_own_python_and_folder(start: Start, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "here.py").write_text(
        "import os, sys\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [f'{sys.prefix} {os.getcwd()} {os.environ[\"VIRTUAL_ENV\"]}'.encode()]\n"
    )
    running = start(site(f'wsgi = "here:app"\nvenv = "{venv}"\ndirectory = "{folder}"', ""))
    assert running.ask("/").body.decode() == f"{venv} {folder} {venv}"
    (packages / "ours.pth").unlink()
    failed = command(running, "reload")
    assert failed.returncode == 1
    assert f"Waitress is not installed here: {venv}/bin/python -m pip install" in failed.stdout + (
        failed.stderr
    )
    assert running.ask("/").status == 200


def test_another_server_is_told_who_its_client_is(start: Start) -> None:
    running = start(site("", GUNICORN))
    answer = running.ask_json("/whoami", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")
    assert (answer["is_secure"], answer["host"]) == (False, "proxyd.test")


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_a_server_of_another_kind_is_told_who_its_client_is(start: Start, name: str) -> None:
    running = start(site("", OTHERS[name]))
    answer = running.ask("/who", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")
    # Hypercorn knows nothing of X-Forwarded-For; a socket's peer has no address.
    assert answer.body == (b"127.0.0.1 http" if name == "uvicorn" else b" http")


def test_another_server_does_not_outlive_the_master(start: Start) -> None:
    running = start(site("", GUNICORN))
    ended = running.pids
    running.kill()
    wait_for(lambda: not any(map(alive, ended)), "the end of every process")
