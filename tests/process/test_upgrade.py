"""A new master on the same sockets: what it takes over, and what a failed one leaves alone."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.config.schema import Listen
from proxy.errors import CommandError
from proxy.process import upgrade
from proxy.process.listeners import Listeners
from proxy.process.state import State
from proxy.process.upgrade import bequest, inherited, leave_secret, start_successor
from proxy.protocol.ticket_keys import TicketSecret
from proxy.upstream.address import TcpAddress, UnixAddress
from tests.process.running import Daemon, alive, wait_for
from tests.process.test_master import WHOLE

Start = Callable[..., Daemon]

BOTH = WHOLE + '[[listen]]\naddress = "unix:web.sock"\n'


@pytest.fixture
def killed() -> Iterator[list[int]]:
    """Give a list of pids that are killed at the end."""
    pids: list[int] = []
    yield pids
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)


def test_a_new_master_has_sockets_files_and_pid_file_of_the_old_one(
    daemon: Start, killed: list[int]
) -> None:
    running = daemon(BOTH)
    running.wait_until_ready()
    (running.folder / "requests-done").touch()
    first = running.ask_worker()
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for_error("another master serves")
    pid = int((running.folder / "var" / "proxyd.pid").read_text())
    killed.append(pid)
    assert pid != running.process.pid
    assert running.process.wait(timeout=20) == 0
    assert running.ask_worker()["pid"] != first["pid"]
    assert (running.folder / "web.sock").exists()
    assert running.files() == {
        "proxyd.pid",
        "control.sock",
        "master.sock",
        "timeline-0.1",
    }
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not alive(pid), "its end")
    wait_for(lambda: running.files() == set(), "its files' end")
    assert not (running.folder / "web.sock").exists()


def test_a_new_master_that_fails_leaves_everything_to_the_old_one(daemon: Start) -> None:
    running = daemon(BOTH)
    running.wait_until_ready()
    first = running.ask_worker()
    (running.folder / "worker-fails").touch()
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for_error("the upgrade failed, what runs goes on: the new master failed: worker 1")
    assert running.ask_worker()["pid"] == first["pid"]
    assert running.files() == {
        "proxyd.pid",
        "control.sock",
        "master.sock",
        "timeline-0.1",
    }
    assert (running.folder / "web.sock").exists()
    assert (running.folder / "var" / "proxyd.pid").read_text() == f"{running.process.pid}\n"


def test_a_configuration_that_is_wrong_is_told_before_anything_is_started(daemon: Start) -> None:
    running = daemon(WHOLE)
    running.wait_until_ready()
    (running.folder / "proxy.toml").write_text("broken")
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for_error("the upgrade failed, what runs goes on: proxy.toml:1")


def test_what_is_left_to_a_new_master_arrives(short: Path) -> None:
    listeners = Listeners()
    addresses = [TcpAddress("127.0.0.1", 0), UnixAddress(short / "web.sock")]
    listens = [
        Listen.model_construct(address=address, backlog=8, proxy_protocol=False, tls=None)
        for address in addresses
    ]
    listeners.open(listens, 2)
    copies = [tuple(map(socket.socket.dup, row)) for each in listeners.bound for row in each.rows]
    lock, pipe = os.pipe()
    secret = TicketSecret.new(1e9)
    document = bequest(listeners.bound, 5, lock, pipe, (leave_secret(secret), secret.day))
    assert secret.secret.hex() not in json.dumps(document)
    for each, row in zip(document["bound"], copies, strict=True):
        each["rows"] = [[sock.detach() for sock in row]]
    environment = {"PROXYD_INHERITED": json.dumps(document), "HOME": "/"}
    found = inherited(environment)
    assert environment == {"HOME": "/"}
    assert found is not None
    assert (found.number, found.lock, found.pipe) == (5, lock, pipe)
    assert (found.ticket_secret.secret, found.ticket_secret.day) == (secret.secret, secret.day)
    for old, new in zip(listeners.bound, found.bound, strict=True):
        assert (old.key, old.balanced, old.made) == (new.key, new.balanced, new.made)
        names = [sock.getsockname() for sock in new.sockets]
        assert names == [sock.getsockname() for sock in old.sockets]
        assert not any(sock.get_inheritable() for sock in new.sockets)
    os.close(lock)
    found.say(ready="")  # the one who read is gone
    os.close(pipe)
    for sock in [sock for each in found.bound for sock in each.sockets]:
        sock.close()
    listeners.close()


def test_a_first_master_inherits_nothing() -> None:
    assert inherited({}) is None


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("pass", "it ended; the log says why"),
        ("import signal; signal.pause()", r"it was not ready within 0\.5 s"),
        (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
            r"it was not ready within 0\.5 s",
        ),
    ],
)
async def test_one_that_does_not_come_so_far_is_ended(
    monkeypatch: pytest.MonkeyPatch, source: str, told: str
) -> None:
    monkeypatch.setattr(upgrade.sys, "orig_argv", ["python", "-c", source])  # type: ignore[attr-defined]
    monkeypatch.setattr(upgrade, "_READY_S", 30 if source == "pass" else 0.5)
    monkeypatch.setattr(upgrade, "_END_S", 0.5)
    with pytest.raises(CommandError, match=told):
        await start_successor([], 2, 0, TicketSecret.new(0), {}, print)


async def test_one_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade.sys, "executable", "/no/such/python")  # type: ignore[attr-defined]
    with pytest.raises(CommandError, match=r"cannot be started: .*No such file"):
        await start_successor([], 2, 0, TicketSecret.new(0), {}, print)


def test_of_two_masters_only_the_owner_writes_and_removes_the_pid_file(short: Path) -> None:
    old, new = State(short, None), State(short, None)
    old.open()
    (short / "run" / "1").mkdir()
    new.open(os.dup(old.lock))
    assert (short / "run" / "1").exists()
    (short / "proxyd.pid").write_text("1\n")
    new.take_over()
    assert (short / "proxyd.pid").read_text() == f"{os.getpid()}\n"
    old.owner = False
    old.close()
    assert (short / "proxyd.pid").exists()
    new.close()
    assert not (short / "proxyd.pid").exists()
