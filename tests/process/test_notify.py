"""What systemd is told: a real datagram socket stands for it."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.process.notify import Notifier


@pytest.fixture
def systemd(short: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(short / "notify"))
        sock.settimeout(5)
        yield sock


def test_each_state_is_told_in_its_own_words(systemd: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "3000000"}
    notifier = Notifier(environment)
    assert environment == {}  # children must not speak for us
    assert notifier.watchdog_s == 1.5
    notifier.ready()
    assert f"READY=1\nMAINPID={os.getpid()}\n".encode() in systemd.recv(4096)
    notifier.reloading()
    told = systemd.recv(4096)
    assert told.startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert systemd.recv(4096).startswith(b"STOPPING=1")
    notifier.succeeded(4711)
    assert systemd.recv(4096).startswith(b"MAINPID=4711\nREADY=1")
    notifier.alive()
    assert systemd.recv(4096) == b"WATCHDOG=1"
    assert Notifier(dict(notifier.environment())).watchdog_s == 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_the_abstract_namespace_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"proxyd-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert sock.recv(4096) == b"WATCHDOG=1"


def test_without_systemd_nothing_is_told_and_nothing_fails(short: Path) -> None:
    notifier = Notifier({})
    assert notifier.watchdog_s is None
    assert notifier.environment() == {}
    notifier.ready()
    Notifier({"NOTIFY_SOCKET": str(short / "gone")}).ready()
