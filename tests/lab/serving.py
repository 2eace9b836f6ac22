"""Servers for the load generator that do what a test says, with each connection in a thread."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Work = Callable[[socket.socket], None]


def answer(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """Write an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(told: bytes) -> Work:
    """Answer every request (without content) with the same bytes."""

    def work(sock: socket.socket) -> None:
        kept = b""
        while piece := sock.recv(65536):
            kept += piece
            while b"\r\n\r\n" in kept:
                kept = kept.partition(b"\r\n\r\n")[2]
                sock.sendall(told)

    return work


@contextmanager
def serving(work: Work) -> Iterator[int]:
    """Run a server; return its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(sock: socket.socket) -> None:
            with sock, suppress(OSError):
                work(sock)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    threading.Thread(target=serve, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
