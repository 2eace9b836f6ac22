"""An upstream whose every move is the test's: nothing is accepted, read or answered by itself."""

import socket
from contextlib import suppress

from tests.server.wire import TIMEOUT_S, Wire


class Upstream:
    """A listening socket and the connections that were accepted from it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(TIMEOUT_S)
        self.port: int = self.listener.getsockname()[1]
        self.connections: list[Wire] = []

    def accept(self) -> Wire:
        """Wait for the next connection of proxyd's."""
        sock, _ = self.listener.accept()
        wire = Wire(sock)
        self.connections.append(wire)
        return wire

    def has_another(self) -> bool:
        """Whether a connection waits to be accepted."""
        self.listener.setblocking(False)
        try:
            self.connections.append(Wire(self.listener.accept()[0]))
        except BlockingIOError:
            return False
        finally:
            self.listener.settimeout(TIMEOUT_S)
        return True

    def forget(self) -> None:
        """End all connections, and wait until proxyd has seen it: the next test gets new ones."""
        while self.has_another():
            pass
        for wire in self.connections:
            with suppress(OSError):
                wire.sock.shutdown(socket.SHUT_WR)
                wire.rest()
            wire.close()
        self.connections.clear()

    def close(self) -> None:
        self.forget()
        self.listener.close()
