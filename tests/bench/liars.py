"""Servers that say what a test tells them to, whatever they have done."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.engines.nginx import NGINX
from bench.jobs import SMALL
from bench.servers import Server


class Liar(BaseHTTPRequestHandler):
    """Answers what the server is told to; says that it is a hit from the second time on."""

    says = "X-Cache", "MISS", "HIT"
    content = SMALL
    asked: list[str]

    def do_GET(self) -> None:
        name, first, later = self.says
        told = later if self.path in self.asked else first
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header(name, told)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def liar(says: tuple[str, str, str], content: bytes = SMALL) -> Iterator[Server]:
    attributes = {"says": says, "content": content, "asked": []}
    kind = type("Told", (Liar,), attributes)
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        port = served.server_address[1]
        try:
            yield Server(
                name="liar", version="1", serves=NGINX.serves, port=port, tls_port=0, roots=()
            )
        finally:
            served.shutdown()
            thread.join()
