"""One proxyd for most of these tests: WSGI servers, files, and an upstream that is the test."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.sync.server import ServerConnection, serve

from tests.server.daemon import Daemon, serving
from tests.server.upstream import Upstream

# Routes that differ in one thing only; all of them lead to the `upstream` of the test.
CONFIGURATION = """
[[listen]]
address = "127.0.0.1:0"
[[listen]]
address = "unix:trusted.sock"
[[listen]]
address = "unix:proxied.sock"
proxy_protocol = true
[[listen]]
address = "localhost:0"
proxy_protocol = true

[app.flask]
wsgi = "application:app"
threads = 4
[app.gevent]
wsgi = "application:app"
server = "gevent"
[app.werkzeug]
wsgi = "application:app"
server = "werkzeug"
[app.lonely]
wsgi = "application:app"
threads = 1
max_connections = 2

[upstream.test]
servers = ["127.0.0.1:{port}"]
[upstream.impatient]
servers = ["127.0.0.1:{port}"]
read_timeout = "500ms"
[upstream.narrow]
servers = ["127.0.0.1:{port}"]
max_connections = 1
queue = 1
[upstream.websocket]
servers = ["127.0.0.1:{websocket_port}"]
[upstream.nobody]
servers = ["unix:nobody.sock"]
[upstream.full]
servers = ["127.0.0.1:{full_port}"]
connect_timeout = "500ms"

[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/test/*"
to = "test"
[[route]]
path = "/small/*"
to = "test"
body_limit = "1KiB"
[[route]]
path = "/large/*"
to = "test"
body_limit = "3GiB"
[[route]]
path = "/direct/*"
to = "test"
body_limit = "3GiB"
buffer_request = false
buffer_response = false
[[route]]
path = "/impatient/*"
to = "impatient"
[[route]]
path = "/narrow/*"
to = "narrow"
[[route]]
path = "/websocket"
to = "websocket"
[[route]]
path = "/nobody"
to = "nobody"
[[route]]
path = "/full"
to = "full"
[[route]]
path = "/lonely/*"
to = "lonely"
strip_prefix = true
[[route]]
path = "/gevent/*"
to = "gevent"
strip_prefix = true
[[route]]
path = "/werkzeug/*"
to = "werkzeug"
strip_prefix = true
[[route]]
path = "/under/a%20prefix/*"
to = "flask"
strip_prefix = true
[[route]]
path = "/*"
to = "flask"
"""


@pytest.fixture(scope="session")
def listening() -> Iterator[Upstream]:
    """Give the upstream's socket, whose port is in the configuration."""
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="session")
def websocket_port() -> Iterator[int]:
    """Run a WebSocket server that says everything back, in capitals."""

    def talk(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message.upper())

    listener = socket.create_server(("127.0.0.1", 0))
    with serve(talk, sock=listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield listener.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def full_port() -> Iterator[int]:
    """Give the port of a server that accepts nobody and whose backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with ExitStack() as held:
            for _ in range(2):
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            yield port


@pytest.fixture(scope="session")
def daemon(listening: Upstream, websocket_port: int, full_port: int) -> Iterator[Daemon]:
    """Run one proxyd, and see at the end that nothing is left of it."""
    ports = {"port": listening.port, "websocket_port": websocket_port, "full_port": full_port}
    configuration = CONFIGURATION
    for name, port in ports.items():
        configuration = configuration.replace(f"{{{name}}}", str(port))
    with serving(configuration) as running:
        yield running
        assert running.stop() == 0
        running.check_clean()


@pytest.fixture
def upstream(listening: Upstream, daemon: Daemon) -> Iterator[Upstream]:
    """Give the upstream with no connection left of the test before."""
    yield listening
    listening.forget()


@pytest.fixture
def start() -> Iterator[Callable[..., Daemon]]:
    """Give a function that starts a proxyd of this test's own, beside the same application."""
    with ExitStack() as stack:
        yield lambda configuration, **options: stack.enter_context(
            serving(configuration, **options)
        )
