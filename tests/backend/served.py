"""Timeline under a real Waitress, set up as proxyd sets it up, in a thread of the test."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse

import waitress.server
from flask import Flask

THREADS = 4


@contextmanager
def served(app: Flask) -> Iterator[int]:
    """Serve an application on a port of this machine; give the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = waitress.server.create_server(
        app,
        sockets=[listener],
        threads=THREADS,
        channel_request_lookahead=1,
        asyncore_use_poll=True,
        map={},
    )
    stopping = threading.Event()
    thread = threading.Thread(target=_run, args=(server, stopping))
    thread.start()
    try:
        yield port
    finally:
        stopping.set()
        thread.join()
        server.task_dispatcher.shutdown(timeout=5)
        server.close()
        listener.close()


def _run(server: waitress.server.BaseWSGIServer, stopping: threading.Event) -> None:
    while not stopping.is_set():
        server.asyncore.loop(timeout=0.05, map=server._map, use_poll=True, count=1)
    with suppress(OSError):
        server.asyncore.close_all(server._map)


@contextmanager
def asked(port: int, path: str, method: str = "GET", **fields: str) -> Iterator[HTTPResponse]:
    """Ask on a connection of one's own, which is closed at the end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=fields)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()
