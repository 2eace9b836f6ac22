"""HTTP/1.1 by hand, for both ends of a socket: what clients and upstreams of these tests speak."""

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

TIMEOUT_S = 10.0
Lines = list[tuple[str, str]]


@dataclass
class Message:
    """A request or a response as it came."""

    start: str
    fields: Lines
    body: bytes = b""
    trailers: Lines = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def get(self, name: str) -> str | None:
        """Return the value of the only field of that name."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} comes {len(values)} times"
        return values[0] if values else None


class Wire:
    """A connected socket with what was read ahead of it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(TIMEOUT_S)
        self.held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> None:
        """Send a request with a Host."""
        head = [f"{method} {target} HTTP/1.1", "Host: proxyd.test", *lines]
        if body:
            head.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*head, "", ""]).encode() + body)

    def answer(self, body: bytes = b"", *lines: str, status: str = "200 OK") -> None:
        """Send a whole response."""
        head = [f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}", "", ""]
        self.send("\r\n".join(head).encode() + body)

    def until(self, mark: bytes) -> bytes:
        """Return everything up to the end of `mark`; raises EOFError when it does not come."""
        while mark not in self.held:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"the connection ended behind {self.held[-200:]!r}")
            self.held += data
        end = self.held.index(mark) + len(mark)
        found, self.held = self.held[:end], self.held[end:]
        return found

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes; raises EOFError when they do not come."""
        pieces = [self.held]
        missing = size - len(self.held)
        while missing > 0:
            data = self.sock.recv(min(missing, 1 << 20))
            if not data:
                raise EOFError(f"the connection ended {missing} bytes too early")
            pieces.append(data)
            missing -= len(data)
        held = b"".join(pieces)
        found, self.held = held[:size], held[size:]
        return found

    def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        with suppress(ConnectionResetError):
            while data := self.sock.recv(1 << 20):
                self.held += data
        found, self.held = self.held, b""
        return found

    def ended(self) -> bool:
        """Whether the other side ends the connection without another byte."""
        return self.rest() == b""

    def head(self) -> Message:
        """Read a start line and fields."""
        text = self.until(b"\r\n\r\n").decode("latin-1")
        start, *lines = text[:-4].split("\r\n")
        return Message(start, _fields(lines))

    def chunk(self) -> bytes:
        """Read one chunk of a chunked body; b"" is the last, whose trailers are not read yet."""
        size = int(self.until(b"\r\n"), 16)
        if not size:
            return b""
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def trailers(self) -> Lines:
        """Read what follows the last chunk."""
        lines = []
        while (line := self.until(b"\r\n")) != b"\r\n":
            lines.append(line[:-2].decode("latin-1"))
        return _fields(lines)

    def message(self, *, bodiless: bool = False) -> Message:
        """Read a head and the body that it announces."""
        message = self.head()
        if bodiless:
            return message
        if message.get("transfer-encoding") is not None:
            while data := self.chunk():
                message.body += data
            message.trailers = self.trailers()
        elif (length := message.get("content-length")) is not None:
            message.body = self.exactly(int(length))
        elif message.start.startswith("HTTP/") and message.status not in {204, 304}:
            message.body = self.rest()
        return message


def connect(address: tuple[str, int] | Path) -> Wire:
    """Connect to a TCP address or to a unix socket."""
    if isinstance(address, tuple):
        return Wire(socket.create_connection(address, TIMEOUT_S))
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT_S)
    sock.connect(str(address))
    return Wire(sock)


def _fields(lines: list[str]) -> Lines:
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
