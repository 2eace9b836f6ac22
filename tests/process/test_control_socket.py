"""The control socket: who may open it, what it takes, and that no client can hold it up."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import CommandError, ConfigError
from proxy.process import control_socket
from proxy.process.control_client import command, state_folder
from proxy.process.control_socket import SOCKET_NAME, ControlSocket, Outcome
from proxy.process.generation import Tell

Made = tuple[ControlSocket, asyncio.Event]


async def greet(tell: Tell) -> Outcome:
    tell("one moment")
    return "hello", {"number": 7}


async def refuse(tell: Tell) -> Outcome:
    raise CommandError("not today")


async def stumble(tell: Tell) -> Outcome:
    raise RuntimeError("a secret")


async def give_up(tell: Tell) -> Outcome:
    raise asyncio.CancelledError


async def flood(tell: Tell) -> Outcome:
    for _ in range(10_000):
        tell("x" * 1000)
    return "done", {}


@pytest.fixture
async def control(short: Path) -> AsyncIterator[Made]:
    waiting = asyncio.Event()

    async def wait(tell: Tell) -> Outcome:
        await waiting.wait()
        return "waited", {}

    handlers = {
        "greet": greet, "refuse": refuse, "stumble": stumble, "give up": give_up,
        "flood": flood, "wait": wait,
    }  # fmt: skip
    made = ControlSocket(short, handlers)
    await made.open()
    yield made, waiting
    await made.close()
    assert not (short / SOCKET_NAME).exists()


async def ask(folder: Path, name: str, told: list[str] | None = None) -> tuple[str, dict[str, Any]]:
    tell: Callable[[str], None] = (told if told is not None else []).append
    return await asyncio.to_thread(command, folder, name, tell)


async def test_a_command_tells_of_its_progress_and_then_of_its_outcome(
    control: Made, short: Path
) -> None:
    told: list[str] = []
    assert await ask(short, "greet", told) == ("hello", {"number": 7})
    assert told == ["one moment"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refuse", "not today"),
        ("stumble", "it failed; the log says why"),
        ("give up", "proxyd ends"),
        ("dance", "no such command; there are: flood, give up, greet"),
    ],
)
async def test_what_was_not_done_is_told(control: Made, short: Path, name: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        await ask(short, name)


async def test_only_the_owner_may_open_it(control: Made, short: Path) -> None:
    assert (short / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
    assert not (short / "master.new").exists()


@pytest.mark.parametrize("said", [b"\xff\n", b"[]\n", b"{}\n", b'{"command": []}\n', b"x" * 5000])
async def test_what_is_no_command_is_answered_and_ended(
    control: Made, short: Path, said: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(short / SOCKET_NAME)
    writer.write(said)
    assert json.loads(await reader.readline())["done"] is False
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_says_nothing_is_not_waited_for(
    control: Made, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "_TALK_S", 0.05)
    reader, writer = await asyncio.open_unix_connection(short / SOCKET_NAME)
    assert await reader.read() == b""
    writer.close()


async def test_a_client_that_reads_nothing_is_not_waited_for(
    control: Made, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "_TALK_S", 0.05)
    _, writer = await asyncio.open_unix_connection(short / SOCKET_NAME, limit=1)
    writer.write(b'{"command": "flood"}\n')
    assert await ask(short, "greet")
    async with asyncio.timeout(10):
        while control[0]._clients:  # noqa: ASYNC110 - the other end's doing
            await asyncio.sleep(0.01)
    writer.close()


async def test_there_are_only_so_many_clients_at_once(
    control: Made, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "_CLIENTS", 1)
    first = asyncio.create_task(ask(short, "wait"))
    while not control[0]._clients:  # noqa: ASYNC110 - a thread's doing
        await asyncio.sleep(0.01)
    with pytest.raises(CommandError, match=r"proxyd ended before it answered|cannot be asked"):
        await ask(short, "greet")
    control[1].set()
    assert await first == ("waited", {})


async def test_its_end_is_told_to_those_who_still_wait(short: Path) -> None:
    async def wait_long(tell: Tell) -> Outcome:
        await asyncio.Event().wait()
        return "", {}

    made = ControlSocket(short, {"wait": wait_long})
    await made.open()
    waiting = asyncio.create_task(ask(short, "wait"))
    while not made._clients:  # noqa: ASYNC110 - a thread's doing
        await asyncio.sleep(0.01)
    await made.close()
    with pytest.raises(CommandError, match="proxyd ends"):
        await waiting


async def test_it_takes_the_place_of_a_predecessor_whose_end_leaves_it_alone(short: Path) -> None:
    old, new = ControlSocket(short, {}), ControlSocket(short, {"greet": greet})
    await old.open()
    await new.open()
    await old.close()
    assert await ask(short, "greet")
    await new.close()


async def test_a_folder_deeper_than_a_socket_can_be_is_no_hindrance(short: Path) -> None:
    deep = short.joinpath(*["deep" * 10] * 4)
    deep.mkdir(parents=True)
    made = ControlSocket(deep, {"greet": greet})
    before = Path.cwd()
    await made.open()
    assert Path.cwd() == before
    assert await ask(deep, "greet") == ("hello", {"number": 7})
    await made.close()


def test_without_a_daemon_the_way_to_start_one_is_told(short: Path) -> None:
    with pytest.raises(CommandError, match=r"no proxyd runs .*`proxyd run`"):
        command(short, "status", print)


def test_the_state_folder_is_found_in_a_file_that_somebody_broke(short: Path) -> None:
    config = short / "proxy.toml"
    config.write_text('nonsense = 1\n[server]\nstate_dir = "elsewhere"\n')
    with pytest.raises(ConfigError):
        state_folder(config)
    (short / "elsewhere").mkdir()
    (short / "elsewhere" / SOCKET_NAME).touch()
    assert state_folder(config) == short / "elsewhere"
    config.write_text("no TOML")
    with pytest.raises(ConfigError):
        state_folder(config)
    (short / "var").mkdir()
    (short / "var" / SOCKET_NAME).touch()
    assert state_folder(config) == short / "var"
