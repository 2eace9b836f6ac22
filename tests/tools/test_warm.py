"""Where requests that warm the cache go, and what becomes of them."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest

from proxy.errors import CommandError
from proxy.tools.asked import asked
from proxy.tools.warm import Daemon, Listener, Warmed, listener_of, urls_of, warm, warm_one
from tests.config.pki import Issued

STORED = "proxyd; fwd=uri-miss; fwd-status=200; ttl=9; stored"


class Handler(BaseHTTPRequestHandler):
    """Answers with the Cache-Status that the query says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, said = self.path.partition("?")
        content = self.headers["Host"].encode() * 1000
        if path == "/index.xml":
            places = ("1", "2")
            content = "".join(
                f"<sitemap><loc>http://h/{place}.xml</loc></sitemap>" for place in places
            ).encode()
            content = b"<sitemapindex>" + content + b"</sitemapindex>"
        elif path.endswith(".xml"):
            content = b"http://h/a\nhttp://h" + path.encode() + b"\n"
        self.send_response(500 if path == "/broken" else 404 if path == "/none.xml" else 200)
        self.send_header("Content-Length", str(len(content)))
        if said:
            self.send_header("Cache-Status", said.replace("+", " "))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class UnixServer(UnixStreamServer):
    def get_request(self) -> tuple[Any, Any]:
        request, _address = super().get_request()
        return request, ("unix", 0)


@pytest.fixture
def served() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        yield from serving(server, f"http://127.0.0.1:{server.server_address[1]}")


def serving(server: Any, url: str) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield url
    server.shutdown()
    thread.join()


def test_listeners_are_read_from_what_the_daemon_says() -> None:
    assert listener_of("http://127.0.0.1") == Listener(False, "127.0.0.1", 80)
    assert listener_of("https://[::1]:8443") == Listener(True, "::1", 8443)
    assert listener_of("unix:/run/a.sock") == Listener(False, path=Path("/run/a.sock"))


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        (f"/a?{STORED.replace(' ', '+')}", "stored"),
        ("/a?proxyd;+hit;+ttl=9", "hit"),
        ("/a?other;+hit,proxyd;+fwd=uri-miss;+stored=?0", "not stored"),
        ("/a", "not stored"),
        ("/broken", "failed"),
    ],
)
def test_the_outcome_is_what_our_cache_says(target: str, outcome: str, served: str) -> None:
    daemon = Daemon([served], {})
    assert warm_one(daemon, asked(f"http://h{target}")).outcome == outcome
    daemon.close()


def test_all_are_asked_and_counted(served: str) -> None:
    daemon = Daemon([served], {"X-A": "b"})
    done: list[Warmed] = []
    counts = warm(daemon, [asked(f"http://h/{at}") for at in range(5)], 1, done.append)
    assert counts == {"not stored": 5}
    assert [one.url for one in done] == [f"http://h/{at}" for at in range(5)]
    daemon.close()


def test_an_index_of_sitemaps_is_followed(served: str) -> None:
    daemon = Daemon([served], {})
    wanted = urls_of(daemon, "http://h/index.xml", lambda _name: b"")
    assert [each.request.path for each in wanted] == [b"/a", b"/1.xml", b"/2.xml"]
    daemon.close()


def test_a_list_is_bounded(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tools.warm.MOST_URLS", 2)
    daemon = Daemon([served], {})
    with pytest.raises(CommandError, match="warm its parts"):
        urls_of(daemon, "http://h/index.xml", lambda _name: b"")
    daemon.close()


def test_a_sitemap_that_is_not_there_is_an_error(served: str) -> None:
    daemon = Daemon([served], {})
    with pytest.raises(CommandError, match="404"):
        urls_of(daemon, "http://h/none.xml", lambda _name: b"")
    daemon.close()


def test_a_daemon_that_is_gone_is_a_failure() -> None:
    daemon = Daemon(["http://127.0.0.1:1"], {})
    assert warm_one(daemon, asked("http://h/")).outcome == "failed"
    with pytest.raises(CommandError, match="cannot be had"):
        urls_of(daemon, "http://h/s.xml", lambda _name: b"")
    daemon.close()


def test_a_scheme_that_no_listener_speaks_is_a_failure(served: str) -> None:
    daemon = Daemon([served], {})
    assert "no [[listen]] speaks https" in warm_one(daemon, asked("https://h/")).detail


def test_a_unix_socket_is_a_listener(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with UnixServer(str(path), Handler) as server:
        for url in serving(server, f"unix:{path}"):
            daemon = Daemon([url], {})
            response, content = daemon.get(asked("http://name/"), 4)
            assert (response.status, content) == (200, b"name")
            daemon.close()


def test_with_tls_the_name_of_the_site_is_asked_for(tmp_path: Path) -> None:
    names: list[str | None] = []
    certificate, key = Issued.authority().issue("name.example").write(tmp_path, "name")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        for url in serving(server, f"https://127.0.0.1:{server.server_address[1]}"):
            daemon = Daemon([url], {})
            assert warm_one(daemon, asked("https://name.example/")).outcome == "not stored"
            daemon.close()
    assert names == ["name.example"]
