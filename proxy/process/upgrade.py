"""A new master on the same sockets: after an upgrade of Python or of proxyd, without a gap.

    old ── starts ──▶ new      by the command line that started the old one; it inherits the
                               listening sockets and the lock of the state folder
    old ◀── ready ─── new      its workers accept beside those of the old one
    old finishes what it has, and ends; whatever fails before that ends the new one only

What the old one hands over stands in one variable of the environment, as JSON; but for the secret
of the session tickets, which others of the same user could read there, and which comes by a pipe.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from proxy.errors import CommandError
from proxy.process.capabilities import capabilities_handed_on
from proxy.process.generation import Tell
from proxy.process.listeners import Bound
from proxy.protocol.ticket_keys import TicketSecret

_VARIABLE = "PROXYD_INHERITED"
# Applications have start_timeout, 30 s each, and workers 60; a new Python compiles its modules.
_READY_S = 300.0
_END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a master got from its predecessor: `number` is that of its first generation.

    `lock` and `pipe` are descriptors; the predecessor reads on the other end of `pipe`. With its
    `ticket_secret`, clients go on with the TLS sessions that they have.
    """

    bound: Sequence[Bound]
    number: int
    lock: int
    pipe: int
    ticket_secret: TicketSecret

    def say(self, **said: str) -> None:
        """Tell the predecessor; one that is gone does not mind."""
        with suppress(OSError):
            os.write(self.pipe, json.dumps(said).encode() + b"\n")


def inherited(environment: MutableMapping[str, str]) -> Inheritance | None:
    """Take what a predecessor left in the environment; None for a master that is the first."""
    text = environment.pop(_VARIABLE, None)
    if text is None:
        return None
    given = json.loads(text)
    bound = []
    for each in given["bound"]:
        rows = tuple(tuple(map(_socket, row)) for row in each["rows"])
        made = os.lstat(each["key"].removeprefix("unix:")) if each["made"] else None
        bound.append(Bound(key=each["key"], rows=rows, balanced=each["balanced"], made=made))
    for descriptor in (given["lock"], given["pipe"]):
        os.set_inheritable(descriptor, False)
    return Inheritance(
        bound=bound,
        number=given["number"],
        lock=given["lock"],
        pipe=given["pipe"],
        ticket_secret=_read_secret(given["ticket_secret"], given["ticket_day"]),
    )


def _read_secret(descriptor: int, day: int) -> TicketSecret:
    with os.fdopen(descriptor, "rb") as pipe:
        return TicketSecret(pipe.read(), day)


def _socket(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def leave_secret(secret: TicketSecret) -> int:
    """Return the descriptor of a pipe that has the secret in it."""
    reading, writing = os.pipe()
    os.write(writing, secret.secret)
    os.close(writing)
    return reading


def bequest(
    bound: Sequence[Bound], number: int, lock: int, pipe: int, secret: tuple[int, int]
) -> dict[str, Any]:
    """Return what `inherited` reads; `secret` is the pipe that has it, and its day."""
    return {
        "bound": [
            {
                "key": each.key,
                "rows": [[sock.fileno() for sock in row] for row in each.rows],
                "balanced": each.balanced,
                "made": each.made is not None,
            }
            for each in bound
        ],
        "number": number,
        "lock": lock,
        "pipe": pipe,
        "ticket_secret": secret[0],
        "ticket_day": secret[1],
    }


async def start_successor(
    bound: Sequence[Bound],
    number: int,
    lock: int,
    secret: TicketSecret,
    environment: Mapping[str, str],
    tell: Tell,
) -> int:
    """Start a new master and return its pid when it serves.

    Raises CommandError when it does not come so far; then, as after a cancellation, it is gone.
    """
    reading, pipe = os.pipe()
    left = leave_secret(secret)
    document = json.dumps(bequest(bound, number, lock, pipe, (left, secret.day)))
    sockets = [sock.fileno() for each in bound for sock in each.sockets]
    try:
        with capabilities_handed_on():
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - it outlives this loop
                [sys.executable, *sys.orig_argv[1:]],
                env=os.environ | environment | {_VARIABLE: document},
                pass_fds=[lock, pipe, left, *sockets],
            )
    except OSError as error:
        os.close(reading)
        raise CommandError(f"the new master cannot be started: {error}") from None
    finally:
        os.close(pipe)
        os.close(left)
    try:
        async with asyncio.timeout(_READY_S):
            failure = await _hear(reading, tell)
    except TimeoutError:
        failure = f"it was not ready within {_READY_S:g} s"
    except BaseException:
        await _end(process)
        raise
    if failure is not None:
        await _end(process)
        raise CommandError(f"the new master failed: {failure}")
    process.returncode = 0  # it is nobody's child from now on: Popen need not wait for it
    return process.pid


async def _hear(reading: int, tell: Tell) -> str | None:
    """Return None when the new master serves, or why it does not."""
    stream = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb")
    )
    try:
        async for line in stream:
            said = json.loads(line)
            if "progress" in said:
                tell(said["progress"])
            elif "failed" in said:
                return str(said["failed"])
            else:
                return None
    finally:
        transport.close()
    return "it ended; the log says why"


async def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a new master that is of no use, its children with it: they hold on to its life line."""
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, _END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)
