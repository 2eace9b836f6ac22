"""A worker as the master sees it: what it is given, when it may accept, and how it shows life."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import socket

from proxy.config.schema import Config
from proxy.process.certificates import Certificates
from proxy.process.children import Unfit
from proxy.process.places import Member, Places
from proxy.process.privileges import Identity
from proxy.process.pulse import DUMP_SIGNAL, Pulse

ACCEPT = b"accept\n"
TLS = b"tls "
# The longest line: the certificates of a thousand sites.
LINE_BYTES = 16 * 1024 * 1024
# It reads proxy.toml and looks into the folders of static files; nothing that takes long.
_START_TIMEOUT_S = 60.0
# What the stack of every thread takes to be written before the process is killed.
_DUMP_S = 0.5


class WorkerProgram:
    """One worker (see children.py).

    The process gets one line of JSON on standard input: `config`, the path of proxy.toml, and
    `config_text`, what the master read there; `worker`, its number from 0; `listeners`, descriptors
    with the index of their [[listen]]; `apps`, the sockets of each application; `siblings`, on
    which the workers ask one another, by their number; `pulse_fd`, where
    it says READY (see pulse.py); `tls`, a TlsDocument. It accepts once it has read ACCEPT; a line
    that begins with TLS has the certificates that have changed, one that begins with APP where a
    process of an application is (see places.py).
    """

    def __init__(  # noqa: PLR0913
        self,
        number: int,
        command: Sequence[str],
        *,
        config: Config,
        listeners: Sequence[tuple[int, socket]],
        apps: Mapping[str, Sequence[Path]],
        siblings: Sequence[Path],
        places: Places,
        certificates: Certificates,
        identity: Identity | None,
    ) -> None:
        self.name = f"worker {number + 1}"
        self.start_timeout_s = _START_TIMEOUT_S
        self._command = command
        self._identity = identity
        self._certificates = certificates
        self._places = places
        self._member: Member | None = None
        self._heartbeat_s = config.timeouts.heartbeat
        self._descriptors = [sock.fileno() for _, sock in listeners]
        self._pulse: Pulse | None = None
        self._process: Process | None = None
        self._accepts = False
        self._document: dict[str, object] = {
            "config": str(config.source.file),
            "config_text": config.source.text,
            "worker": number,
            "listeners": [{"fd": sock.fileno(), "index": index} for index, sock in listeners],
            "siblings": [str(path) for path in siblings],
            "apps": {name: [str(path) for path in paths] for name, paths in apps.items()},
        }

    async def spawn(self) -> Process:
        """Start the worker as the runtime user, with its sockets and a pipe to speak on."""
        self._forget_pulse()
        self._pulse = pulse = Pulse(self.name)
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                env=os.environ | (self._identity.environment() if self._identity else {}),
                stdin=PIPE,
                pass_fds=[*self._descriptors, pulse.its_end],
                start_new_session=True,
                **(self._identity.process_options() if self._identity else {}),
            )
        finally:
            os.close(pulse.its_end)
            self._document["pulse_fd"] = pulse.its_end

    async def ready(self, process: Process) -> None:
        """Hand over what the worker needs, and return when it has said READY."""
        self._process = process
        tls = self._certificates.encoded
        self._say(json.dumps(self._document | {"tls": tls.decode()}).encode() + b"\n")
        if self._pulse is not None:
            await self._pulse.ready.wait()
            self._member = self._places.join(self._say, self._pulse)
        if tls != self._certificates.encoded:
            self.renew_certificates()
        if self._accepts:
            self._say(ACCEPT)

    def accept(self) -> None:
        """Let the worker accept connections, and each successor as soon as it is ready."""
        self._accepts = True
        self._say(ACCEPT)

    def renew_certificates(self) -> None:
        """Hand over the certificates that have changed, unless the worker is still to start."""
        if self._pulse is not None and self._pulse.ready.is_set():
            self._say(TLS + self._certificates.encoded + b"\n")

    def _say(self, line: bytes) -> None:
        """Write to the life line; a worker that died already does not mind."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line)

    async def failing(self, process: Process) -> Unfit:
        """Return why a worker that runs must be replaced, its stacks in the log by then."""
        if self._pulse is None:
            return Unfit(reason="it was never started")
        await self._pulse.silent(self._heartbeat_s)
        with suppress(ProcessLookupError):
            process.send_signal(DUMP_SIGNAL)
        await asyncio.sleep(_DUMP_S)
        return Unfit(
            reason=f"it has not moved for {self._heartbeat_s:g} s; its stack is in the log"
        )

    async def drained(self, process: Process) -> None:
        """Workers write to the log themselves."""
        self._forget_pulse()

    def _forget_pulse(self) -> None:
        if self._member is not None:
            self._places.quit(self._member)
            self._member = None
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None

    def advice(self, code: int | None) -> str:
        """Say what to do about a worker that did not start."""
        return "the log says why"
