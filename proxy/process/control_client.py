"""The other end of the control socket: what `proxyd reload`, `stop`, `status` and `upgrade` do."""

import json
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.config.load import load
from proxy.errors import CommandError, ConfigError
from proxy.process.control_socket import SOCKET_NAME
from proxy.process.generation import Tell
from proxy.process.paths import near

# A reload waits for applications to start, and for reloads before it; an end for its requests.
_PATIENCE_S = 900.0


def command(folder: Path, name: str, tell: Tell) -> tuple[str, dict[str, Any]]:
    """Let the daemon of this state folder do something; returns its words and data.

    `tell` gets what it says meanwhile. Returns when the command has come to its end, which for
    "stop" is the daemon's. Raises CommandError when it failed, or when there is no daemon.
    """
    with _connected(folder) as sock:
        sock.sendall(json.dumps({"command": name}).encode() + b"\n")
        outcome = None
        for line in sock.makefile("rb"):
            said = json.loads(line)
            if "progress" in said:
                tell(said["progress"])
            else:
                outcome = said
        if outcome is None:
            raise CommandError("proxyd ended before it answered; its log says why")
        if not outcome["done"]:
            raise CommandError(outcome["text"])
        return outcome["text"], outcome.get("data", {})


def state_folder(config: Path) -> Path:
    """Return the state folder that a configuration names, however wrong the rest of it is.

    A daemon that runs can be stopped although somebody has broken its proxy.toml since. Raises
    ConfigError when nothing can be known.
    """
    try:
        return load(config).server.state_dir
    except ConfigError:
        try:
            named = tomllib.loads(config.read_text())["server"]["state_dir"]
        except (OSError, ValueError, KeyError, TypeError):
            named = "var"
        folder = config.absolute().parent / str(named)
        if not (folder / SOCKET_NAME).exists():
            raise
        return folder


@contextmanager
def _connected(folder: Path) -> Iterator[socket.socket]:
    path = folder / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PATIENCE_S)
        try:
            with near(path) as address:
                sock.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise CommandError(
                f"no proxyd runs with the state_dir {folder}; start one with `proxyd run`"
            ) from None
        except PermissionError:
            raise CommandError(
                f"{path} belongs to another user; be the one who started proxyd, or root"
            ) from None
        try:
            yield sock
        except TimeoutError:
            raise CommandError(f"proxyd said nothing for {_PATIENCE_S:g} s") from None
        except (OSError, ValueError) as error:
            raise CommandError(f"proxyd cannot be asked: {error}") from None
