"""What workers keep in memory, asked of each over its private socket."""

import http.client
import os
import socket
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from proxy.errors import CommandError
from proxy.pipeline.census import FIELD, Census, Wanted
from proxy.process.paths import near

# A worker answers between two turns of its loop; one that hangs is not waited for.
_PATIENCE_S = 5.0

_decode = msgspec.json.Decoder(Census).decode
_encode = msgspec.json.Encoder().encode


class WorkerQuery(Protocol):
    """Asks the workers of a running daemon what they keep in memory."""

    def census(self, wanted: Wanted) -> list[Census]:
        """Return what each worker says, in order; nothing when no daemon runs.

        Raises CommandError.
        """


class WorkerSockets:
    """Implements `WorkerQuery` over the sockets on which workers ask one another."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder

    def census(self, wanted: Wanted) -> list[Census]:
        """Ask one worker after the other."""
        try:
            found = [path for path in self._folder.glob("*.sock") if path.stem.isdigit()]
        except OSError as error:
            raise CommandError(f"{self._folder} cannot be read: {error.strerror}") from None
        paths = sorted(found, key=lambda path: int(path.stem))
        return [census for path in paths if (census := _ask(path, wanted)) is not None]


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with near(self._path) as address:
            self.sock.connect(address)


class Answered(NamedTuple):
    """A status and a whole content."""

    status: int
    content: bytes


def _ask(path: Path, wanted: Wanted) -> Census | None:
    connection = UnixConnection(path, _PATIENCE_S)
    try:
        connection.request("GET", "/", headers={FIELD.decode(): _encode(wanted)})
        response = connection.getresponse()
        answered = Answered(response.status, response.read())
    except (FileNotFoundError, ConnectionRefusedError):
        return None  # a worker that has ended
    except PermissionError:
        raise CommandError(
            f"{path} belongs to another user; be the one who started proxyd, or root"
            f" (you are {os.geteuid()})"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"the worker at {path} does not answer: {error}") from None
    finally:
        connection.close()
    if answered.status != 200:
        raise CommandError(f"the worker at {path} answered {answered.status}")
    try:
        return _decode(answered.content)
    except msgspec.DecodeError as error:
        raise CommandError(
            f"the worker at {path} does not answer as it should: {error}; is it of this version?"
        ) from None
