"""Asking workers over their sockets, whatever is at their other ends."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import CommandError
from proxy.pipeline.census import Census, Wanted
from proxy.tools.workers import WorkerSockets
from tests.tools.test_warm import UnixServer


@contextmanager
def worker(path: Path, status: int, content: bytes) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with UnixServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_each_worker_is_asked_and_nobody_else(tmp_path: Path) -> None:
    told = b'{"entries": 1, "cost_bytes": 2, "hits": 3, "items": []}'
    (tmp_path / "app-0.sock").touch()
    with worker(tmp_path / "1.sock", 200, told):
        assert WorkerSockets(tmp_path).census(Wanted()) == [Census(1, 2, 3, [])]


def test_where_no_daemon_runs_nobody_answers(tmp_path: Path) -> None:
    with worker(tmp_path / "1.sock", 200, b""):
        pass  # its socket stays behind
    assert WorkerSockets(tmp_path).census(Wanted()) == []
    assert WorkerSockets(tmp_path / "none").census(Wanted()) == []


@pytest.mark.parametrize(
    ("status", "content", "hint"), [(500, b"{}", "answered 500"), (200, b"{", "does not answer")]
)
def test_a_worker_that_is_ill_is_named(
    status: int, content: bytes, hint: str, tmp_path: Path
) -> None:
    with worker(tmp_path / "1.sock", status, content), pytest.raises(CommandError, match=hint):
        WorkerSockets(tmp_path).census(Wanted())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to every socket")
def test_a_socket_of_another_user_is_named(tmp_path: Path) -> None:
    with worker(tmp_path / "1.sock", 200, b"{}"):
        (tmp_path / "1.sock").chmod(0)
        with pytest.raises(CommandError, match="another user"):
            WorkerSockets(tmp_path).census(Wanted())
