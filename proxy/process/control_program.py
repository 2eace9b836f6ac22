"""The control process as the master sees it: what it is given (see proxy/control/process.py)."""

import asyncio
import json
import logging
import os
import socket
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from proxy.config.control import Control, parse_token
from proxy.config.schema import Config
from proxy.errors import StartError
from proxy.observe.outlet import STDERR
from proxy.process.children import Unfit
from proxy.process.privileges import Identity

# "-P" keeps a proxy.py in the working directory from standing in for this package.
CONTROL_COMMAND = (sys.executable, "-P", "-m", "proxy.control")
_TOKEN_FILE_BYTES = 8192

log = logging.getLogger(__name__)


class ControlProgram:
    """The process that answers on [control] (see children.py).

    It gets one line of JSON on standard input: `config`, the path of proxy.toml, and `config_text`,
    what the master read there; `listeners`, descriptors to accept on; `master`, the descriptor of
    a socket on which it may give commands (see control_socket.py); `run_folder`, where the workers
    have their sockets; `token`, "" for none; `log` and `level`, the error log. Who asks it while it
    is not there waits: nobody's traffic depends on it.
    """

    def __init__(
        self,
        config: Config,
        sockets: Sequence[socket.socket],
        run_folder: Path,
        *,
        identity: Identity | None,
        attend: Callable[[socket.socket], None],
        command: Sequence[str] = CONTROL_COMMAND,
    ) -> None:
        self.name = "control"
        self.start_timeout_s = 10.0
        self._command = command
        self._identity = identity
        self._attend = attend
        self._listeners = [sock.fileno() for sock in sockets]
        self._document: dict[str, object] = {
            "config": str(config.source.file),
            "config_text": config.source.text,
            "listeners": self._listeners,
            "run_folder": str(run_folder),
            "token": token_of(config.control),
            "log": STDERR if config.log.error == "-" else str(config.log.error),
            "level": config.log.level,
        }

    async def spawn(self) -> Process:
        """Start the process as the runtime user, with its sockets and one to the master."""
        ours, its = socket.socketpair()
        with its:
            ours.setblocking(False)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=os.environ | (self._identity.environment() if self._identity else {}),
                    stdin=PIPE,
                    pass_fds=[*self._listeners, its.fileno()],
                    start_new_session=True,
                    **(self._identity.process_options() if self._identity else {}),
                )
            except BaseException:
                ours.close()
                raise
            self._document["master"] = its.fileno()
        self._attend(ours)
        return process

    async def ready(self, process: Process) -> None:
        """Hand over what it needs; nobody waits for its work."""
        if process.stdin is not None:
            with suppress(ConnectionError):  # it died already, which its end will tell
                process.stdin.write(json.dumps(self._document).encode() + b"\n")
                await process.stdin.drain()

    async def failing(self, process: Process) -> Unfit:
        """Never return: that it does not answer is for who asks it to see."""
        never: asyncio.Future[Unfit] = asyncio.get_running_loop().create_future()
        return await never

    async def drained(self, process: Process) -> None:
        """It writes to the log itself."""

    def advice(self, code: int | None) -> str:
        """Say what to do about one that did not start."""
        return "the log says why"


def token_of(control: Control) -> str:
    """Return the token that clients need, "" for none; raises StartError."""
    if control.token_file is None:
        return control.token or ""
    path = control.token_file
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_TOKEN_FILE_BYTES).decode("ascii", "replace").strip()
        parse_token(text)
    except OSError as error:
        raise StartError(
            f"[control] token_file {path} cannot be read: {error.strerror}; `openssl rand -hex 32"
            f" > {path}` makes one"
        ) from None
    except ValueError as error:
        raise StartError(f"[control] token_file {path}: the token {error}") from None
    if mode & stat.S_IROTH:
        log.warning("everybody may read the token in %s; chmod 600 %s", path, path)
    return text
