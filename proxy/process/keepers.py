"""The keeper of the disk cache as the master sees it: what it is given (see cache_keeper.py)."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from proxy.config.schema import Config
from proxy.observe.outlet import STDERR
from proxy.process.children import Unfit
from proxy.process.privileges import Identity

# "-P" keeps a proxy.py in the working directory from standing in for this package.
KEEPER_COMMAND = (sys.executable, "-P", "-m", "proxy.process.cache_keeper")


class KeeperProgram:
    """The keeper of one cache's folder (see children.py).

    The process gets one line of JSON on standard input: `folder`, the cache's; `limit_bytes`, what
    its files may take on disk; `log` and `level`, the error log, as `observe.logs.configure` wants
    them. What it cannot do it logs and tries again: no daemon fails to start for its cache.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        limit_bytes: int,
        *,
        identity: Identity | None,
        command: Sequence[str] = KEEPER_COMMAND,
    ) -> None:
        self.name = "cache keeper"
        self.start_timeout_s = 10.0
        self._command = command
        self._identity = identity
        self._document = {
            "folder": str(folder),
            "limit_bytes": limit_bytes,
            "log": STDERR if config.log.error == "-" else str(config.log.error),
            "level": config.log.level,
        }

    async def spawn(self) -> Process:
        """Start the keeper as the runtime user, who owns the folder."""
        return await asyncio.create_subprocess_exec(
            *self._command,
            env=os.environ | (self._identity.environment() if self._identity else {}),
            stdin=PIPE,
            start_new_session=True,
            **(self._identity.process_options() if self._identity else {}),
        )

    async def ready(self, process: Process) -> None:
        """Hand over what the keeper needs; nobody waits for its work."""
        if process.stdin is not None:
            with suppress(ConnectionError):  # it died already, which its end will tell
                process.stdin.write(json.dumps(self._document).encode() + b"\n")
                await process.stdin.drain()

    async def failing(self, process: Process) -> Unfit:
        """Never return: one that waits for a slow disk is best left alone."""
        never: asyncio.Future[Unfit] = asyncio.get_running_loop().create_future()
        return await never

    async def drained(self, process: Process) -> None:
        """Keepers write to the log themselves."""

    def advice(self, code: int | None) -> str:
        """Say what to do about a keeper that did not start."""
        return "the log says why"
