"""What proxyd says to systemd, by sd_notify(3): that it is ready, reloads, ends, lives.

Outside systemd (no NOTIFY_SOCKET) nothing is said. The variables are taken out of the environment:
applications must not speak for proxyd.
"""

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

_SOCKET = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"


class Notifier:
    """The supervisor's socket, if there is one."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop(_SOCKET, "")
        self._watchdog_us = environment.pop(_WATCHDOG, "")
        environment.pop("WATCHDOG_PID", None)

    @property
    def watchdog_s(self) -> float | None:
        """How often to say `alive`, in seconds: twice in the time after which systemd kills."""
        return int(self._watchdog_us) / 2_000_000 if self._watchdog_us.isdigit() else None

    def environment(self) -> dict[str, str]:
        """Return what a successor needs to go on speaking."""
        told = {_SOCKET: self._address, _WATCHDOG: self._watchdog_us}
        return {name: value for name, value in told.items() if value}

    def ready(self) -> None:
        """All processes serve."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=serving")

    def reloading(self) -> None:
        """A new generation is being made; `ready` says that this is over, one way or the other."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1\nSTATUS=ending")

    def succeeded(self, pid: int) -> None:
        """Another process is the master from now on."""
        self._send(f"MAINPID={pid}\nREADY=1\nSTATUS=serving")

    def alive(self) -> None:
        """The master's loop goes round."""
        self._send("WATCHDOG=1")

    async def stay_awake(self) -> None:
        """Say `alive` as often as systemd's watchdog wants to hear it, if it does."""
        while (interval_s := self.watchdog_s) is not None:
            self.alive()
            await asyncio.sleep(interval_s)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # "@" stands for the abstract namespace of Linux.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.setblocking(False)
            sock.sendto(text.encode(), address)
