"""The application's process, with each of the three servers: real sockets, real processes."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.process import serve_wsgi
from tests.process.running import Served, alive, connects, wait_for

Serve = Callable[..., Served]

FROM_PROXYD = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "shop.example:8443",
    "X-Forwarded-Prefix": "/sh%C3%A9",
    "Forwarded": "for=192.0.2.66;host=evil.example",
}
every_server = pytest.mark.parametrize("server", ["waitress", "gevent", "werkzeug"])


@every_server
def test_the_application_sees_what_proxyd_says_of_the_client(serve: Serve, server: str) -> None:
    served = serve(server)
    served.wait_until_ready()
    seen = json.loads(served.get("/a%20b?q=1", FROM_PROXYD))
    assert seen["REMOTE_ADDR"] == "203.0.113.9"
    assert seen["wsgi.url_scheme"] == "https"
    assert seen["HTTP_HOST"] == "shop.example:8443"
    assert seen["SERVER_NAME"] == "shop.example"
    assert seen["SERVER_PORT"] == "8443"
    assert seen["SCRIPT_NAME"] == "/sh\xc3\xa9"
    assert seen["PATH_INFO"] == "/a b"
    assert seen["QUERY_STRING"] == "q=1"
    assert "HTTP_FORWARDED" not in seen
    assert "REMOTE_PORT" not in seen


@every_server
@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected_host", "expected_port"),
    [
        ("https", "shop.example", "443", "shop.example", "443"),
        ("http", "shop.example", "", "shop.example", "80"),
        ("http", "[2001:db8::1]", "80", "[2001:db8::1]", "80"),
        ("http", "[2001:db8::1]:8080", "80", "[2001:db8::1]:8080", "8080"),
        ("http", "shop.example", "8080", "shop.example:8080", "8080"),
    ],
)
def test_host_and_port_are_the_clients(
    serve: Serve,
    server: str,
    scheme: str,
    host: str,
    port: str,
    expected_host: str,
    expected_port: str,
) -> None:
    served = serve(server)
    served.wait_until_ready()
    headers = {
        "X-Forwarded-For": "2001:db8::9",
        "X-Forwarded-Proto": scheme,
        "X-Forwarded-Host": host,
    }
    if port:
        headers["X-Forwarded-Port"] = port
    seen = json.loads(served.get("/", headers))
    assert seen["REMOTE_ADDR"] == "2001:db8::9"
    assert seen["HTTP_HOST"] == expected_host
    assert seen["SERVER_PORT"] == expected_port


@every_server
def test_an_event_reaches_the_client_before_the_next_one_is_made(
    serve: Serve, folder: Path, server: str
) -> None:
    served = serve(server)
    served.wait_until_ready()
    connection = served.connection()
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.readline() == b"data: first\n"
    (folder / "go-on").touch()
    assert response.read() == b"\ndata: second\n\n"
    connection.close()


@every_server
def test_a_large_body_arrives_whole(serve: Serve, server: str) -> None:
    served = serve(server)
    served.wait_until_ready()
    connection = served.connection()
    connection.request("POST", "/length", body=b"x" * 3_000_000)
    assert connection.getresponse().read() == b"3000000"
    connection.close()


@every_server
def test_threads_are_the_requests_that_are_worked_on_at_once(
    serve: Serve, folder: Path, server: str
) -> None:
    served = serve(server, threads=1)
    served.wait_until_ready()
    stream = served.connection()
    stream.request("GET", "/events")
    response = stream.getresponse()
    assert response.readline() == b"data: first\n"
    answers: list[bytes] = []
    waiting = threading.Thread(target=lambda: answers.append(served.get("/pid")))
    waiting.start()
    waiting.join(timeout=0.3)
    assert answers == []
    (folder / "go-on").touch()
    response.read()
    stream.close()
    waiting.join(timeout=20)
    assert answers == [str(served.process.pid).encode()]


@every_server
def test_it_ends_and_takes_its_socket_along_when_it_is_told_to(serve: Serve, server: str) -> None:
    served = serve(server)
    served.wait_until_ready()
    served.get("/pid")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=20) == 0
    assert not served.path.exists()


@every_server
def test_it_ends_at_once_when_the_master_is_gone(serve: Serve, server: str) -> None:
    served = serve(server)
    served.wait_until_ready()
    assert served.process.stdin is not None
    served.process.stdin.close()
    assert served.process.wait(timeout=20) == -signal.SIGKILL
    assert not served.path.exists()
    served.process.stdin = None


def test_its_own_children_end_with_it_when_the_master_is_gone(serve: Serve, folder: Path) -> None:
    (folder / "parent.py").write_text(
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "from timeline import app\n"
    )
    served = serve("waitress", "parent:app")
    served.wait_until_ready()
    child = int((folder / "child").read_text())
    assert alive(child)
    assert served.process.stdin is not None
    served.process.stdin.close()
    served.process.stdin = None
    wait_for(lambda: not alive(child), "the end of the application's own child")


def test_the_socket_is_for_its_user_only(serve: Serve) -> None:
    served = serve("waitress")
    served.wait_until_ready()
    assert served.path.stat().st_mode & 0o777 == 0o600


def test_a_socket_left_by_a_dead_predecessor_is_replaced(serve: Serve, folder: Path) -> None:
    first = serve("waitress")
    first.wait_until_ready()
    first.process.kill()
    first.process.wait()
    assert first.path.exists()
    assert not connects(first.path)
    second = serve("waitress")
    wait_for(lambda: connects(second.path), "the second process")
    assert second.get("/pid") == str(second.process.pid).encode()


def test_the_application_may_have_a_package_named_proxy(serve: Serve, folder: Path) -> None:
    (folder / "proxy.py").write_text("from timeline import app as application\n")
    served = serve("waitress", "proxy:application")
    served.wait_until_ready()
    assert served.get("/pid") == str(served.process.pid).encode()


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("import nothing_like_it", "broken:app", "ModuleNotFoundError: No module named"),
        ("1 / 0", "broken:app", "cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:", "broken:app", "cannot be imported: SyntaxError"),
        ("raise SystemExit(4)", "broken:app", "cannot be imported: SystemExit: 4"),
        ("", "absent:app", "ModuleNotFoundError: No module named 'absent'"),
        ("def create_app(): pass", "broken:app", 'no "app"; it has: create_app'),
        ("x = 1", "broken:app", 'no "app"; it has: no callables'),
        ("app = 7", "broken:app", '"broken:app" is a int, not a WSGI application'),
        ("class a: b = None", "broken:a.c", '"a" of module "broken" has no "c"'),
    ],
)
def test_an_application_that_cannot_be_loaded_says_why(
    serve: Serve, folder: Path, source: str, target: str, complaint: str
) -> None:
    (folder / "broken.py").write_text(source + "\n")
    served = serve("waitress", target)
    output = served.output()
    assert served.process.returncode == serve_wsgi.CANNOT_LOAD
    assert complaint in output.splitlines()[-1]
    assert output.count("Traceback") <= 1
    assert "serve_wsgi.py" not in output


def test_a_dotted_object_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "dotted.py").write_text("class site:\n    def app(*_): return []\n")
    monkeypatch.syspath_prepend(folder)
    assert serve_wsgi.load("dotted:site.app")({}, print) == []


@pytest.mark.parametrize("server", ["gevent", "werkzeug"])
def test_a_server_that_is_not_installed_is_named_with_the_way_out(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    (folder / "path").mkdir()
    (folder / "path" / f"{server}.py").write_text(
        f"raise ModuleNotFoundError('no {server}', name='{server}')"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder / "path"))
    served = serve(server)
    output = served.output()
    assert served.process.returncode == serve_wsgi.CANNOT_LOAD
    assert f"pip install {server}" in output


def test_without_proxyds_fields_the_other_servers_still_have_an_environment() -> None:
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], _: object) -> list[bytes]:
        seen.update(environ)
        return []

    serve_wsgi.believe_proxyd(serve_wsgi.set_prefix(application))({}, os.abort)
    assert seen["REMOTE_ADDR"] == ""
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("localhost", "80")
    assert seen["SCRIPT_NAME"] == ""
    assert "HTTP_HOST" not in seen
