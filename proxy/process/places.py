"""Where each process of each application is, as the master tells its workers.

    master ──▶ worker   app {"app", "index", "serial", "address", "up"}
    worker ──▶ master   app left SERIAL            no connection to that process is left
                        app served SERIAL NUMBER   so many of its requests are done since the last
                                                   time, which is told every second

A process has a serial number, which no other process of this master has. A successor's line comes
when it is ready: from then on nothing new goes to the former, and every worker says when its last
request there is done.
"""

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict, final

from proxy.process.pulse import APP, Pulse
from proxy.upstream.address import Address

LEFT = b"left"
SERVED = b"served"


class Line(TypedDict):
    """What a worker is told of one process; `address` is as in proxy.toml."""

    app: str
    index: int
    serial: int
    address: str
    up: bool


@final
@dataclass(slots=True, eq=False)
class Member:
    """One worker that is told; `uses` has the serials that it may have connections to."""

    say: Callable[[bytes], None]
    uses: set[int] = field(default_factory=set)


class Places:
    """The processes of all applications of one generation."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], Line] = {}
        self._members: set[Member] = set()
        self._waiting: dict[int, asyncio.Event] = {}
        self._served: dict[int, int] = {}

    # ── From the applications ────────────────────────────────────────────────────────────────

    def move(self, app: str, index: int, serial: int, address: Address) -> None:
        """Send what comes from now on to a process that is ready."""
        line = Line(app=app, index=index, serial=serial, address=str(address), up=True)
        self._lines[app, index] = line
        self._served[serial] = 0
        for member in self._members:
            self._tell(member, line)

    def set_up(self, app: str, index: int, serial: int, up: bool) -> None:
        """Say whether a process should get requests, if it is still the one in its place."""
        line = self._lines.get((app, index))
        if line is not None and line["serial"] == serial:
            line["up"] = up
            for member in self._members:
                self._tell(member, line)

    def served(self, serial: int) -> int:
        """Return how many requests a process has answered, as far as is known."""
        return self._served.get(serial, 0)

    async def left(self, serial: int, limit_s: float) -> None:
        """Return when no worker uses the process any more; raises TimeoutError."""
        try:
            async with asyncio.timeout(limit_s):
                while any(serial in member.uses for member in self._members):
                    event = self._waiting.setdefault(serial, asyncio.Event())
                    event.clear()
                    await event.wait()
        finally:
            self._waiting.pop(serial, None)

    def forget(self, serial: int) -> None:
        """Keep nothing about a process that has ended."""
        self._served.pop(serial, None)

    # ── From the workers ─────────────────────────────────────────────────────────────────────

    def join(self, say: Callable[[bytes], None], pulse: Pulse) -> Member:
        """Tell a new worker where everything is, and hear it from now on."""
        member = Member(say)
        self._members.add(member)
        pulse.on_app = lambda text: self._hear(member, text)
        for line in self._lines.values():
            self._tell(member, line)
        return member

    def quit(self, member: Member) -> None:
        """A worker has ended, and its connections with it."""
        self._members.discard(member)
        for serial in member.uses:
            self._note(serial)

    def _tell(self, member: Member, line: Line) -> None:
        member.uses.add(line["serial"])
        member.say(APP + json.dumps(line).encode() + b"\n")

    def _hear(self, member: Member, text: bytes) -> None:
        match text.split():
            case [what, serial] if what == LEFT:
                member.uses.discard(int(serial))
                self._note(int(serial))
            case [what, serial, number] if what == SERVED:
                if int(serial) in self._served:
                    self._served[int(serial)] += int(number)

    def _note(self, serial: int) -> None:
        if serial in self._waiting:
            self._waiting[serial].set()


serials = itertools.count(1)
