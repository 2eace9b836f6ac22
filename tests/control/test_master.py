"""Commands to the master, side by side on one socket; against the master's own end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.control.master import Master
from proxy.errors import CommandError
from proxy.process.control_socket import ControlSocket, Outcome
from proxy.process.generation import Tell


class Ends:
    """Both ends, and handlers that a test holds back."""

    def __init__(self, folder: Path) -> None:
        self.go_on = asyncio.Event()
        self.control = ControlSocket(
            folder, {"slow": self.slow, "fast": self.fast, "fails": self.fails}
        )

    async def slow(self, tell: Tell) -> Outcome:
        tell("waiting")
        await self.go_on.wait()
        return "slow", {}

    async def fast(self, tell: Tell) -> Outcome:
        return "fast", {"number": 1}

    async def fails(self, tell: Tell) -> Outcome:
        raise CommandError("no way")


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[tuple[Ends, Master]]:
    ends = Ends(tmp_path)
    ours, its = socket.socketpair()
    ours.setblocking(False)
    ends.control.attend(ours)
    master = await Master.connected(its)
    yield ends, master
    master.close()
    await ends.control.close()


def ignore(_text: str) -> None:
    pass


async def test_a_command_does_not_wait_for_another(ends: tuple[Ends, Master]) -> None:
    told: list[str] = []
    slow = asyncio.create_task(ends[1].command("slow", told.append, 20))
    assert await ends[1].command("fast", ignore, 20) == ("fast", {"number": 1})
    ends[0].go_on.set()
    assert await slow == ("slow", {})
    assert told == ["waiting"]


@pytest.mark.parametrize(
    ("name", "said"), [("fails", "no way"), ("nonsense", "there are: fails, fast, slow")]
)
async def test_what_fails_says_so(ends: tuple[Ends, Master], name: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        await ends[1].command(name, ignore, 20)


async def test_who_waits_too_long_is_told(ends: tuple[Ends, Master]) -> None:
    with pytest.raises(CommandError, match=r"not answered within 0\.01 s"):
        await ends[1].command("slow", ignore, 0.01)
    ends[0].go_on.set()  # its answer comes, and nobody wants it
    assert (await ends[1].command("fast", ignore, 20))[0] == "fast"


async def test_the_end_of_the_master_is_an_answer(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    master = await Master.connected(its)
    waiting = asyncio.create_task(master.command("status", ignore, 20))
    await asyncio.sleep(0)
    ours.close()
    with pytest.raises(CommandError, match="proxyd ends"):
        await waiting
    with pytest.raises(CommandError, match="proxyd ends"):
        await master.command("status", ignore, 20)
    master.close()
