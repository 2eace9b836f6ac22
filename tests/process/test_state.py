"""The state folder: its lock, its pid file, and folders that only their owner may enter."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.errors import StartError
from proxy.process.state import State


def test_it_makes_private_folders_and_a_pid_file_and_removes_the_latter(short: Path) -> None:
    held = State(short / "var", None)
    held.open()
    assert (short / "var" / "proxyd.pid").read_text() == f"{os.getpid()}\n"
    assert held.of_generation(1).parent.stat().st_mode & 0o777 == 0o755
    assert (short / "var" / "tmp").stat().st_mode & 0o777 == 0o700
    held.close()
    assert not (short / "var" / "proxyd.pid").exists()
    held.close()


def test_a_second_owner_is_refused_until_the_first_is_done(short: Path) -> None:
    first, second = State(short, None), State(short, None)
    first.open()
    with pytest.raises(StartError, match=f"pid {os.getpid()}"):
        second.open()
    second.close()
    assert (short / "proxyd.pid").exists()
    first.close()
    second.open()
    second.close()


def test_the_pid_file_of_a_dead_owner_does_not_matter(short: Path) -> None:
    (short / "proxyd.pid").write_text("12345678901234\n")
    held = State(short, None)
    held.open()
    assert (short / "proxyd.pid").read_text() == f"{os.getpid()}\n"
    held.close()


def test_the_lock_ends_with_its_process(short: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys; from pathlib import Path; from proxy.process.state import State\n"
            "State(Path(sys.argv[1]), None).open(); os._exit(0)",
            str(short),
        ],
        check=True,
    )
    assert (short / "proxyd.pid").exists()
    held = State(short, None)
    held.open()
    held.close()


def test_a_pid_file_that_vanishes_between_open_and_lock_is_made_again(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    calls = []

    def vanish(descriptor: int, operation: int) -> None:
        lock(descriptor, operation)
        calls.append(descriptor)
        if len(calls) == 1:
            (short / "proxyd.pid").unlink()

    monkeypatch.setattr(fcntl, "flock", vanish)
    held = State(short, None)
    held.open()
    assert len(calls) == 2
    assert (short / "proxyd.pid").exists()
    held.close()


def test_sockets_left_by_a_killed_predecessor_are_removed(short: Path) -> None:
    sockets = short / "run" / "7"
    sockets.mkdir(parents=True)
    (sockets / "old-0.sock").touch()
    held = State(short, None)
    held.open()
    assert not sockets.exists()
    held.close()


def test_a_path_too_long_for_sockets_gets_a_short_private_folder_instead(short: Path) -> None:
    held = State(short / ("x" * 60) / ("y" * 60), None)
    held.open()
    assert held.run_folder.name.startswith("proxyd-")
    held.close()
    assert not held.run_folder.exists()


def test_a_folder_that_cannot_be_used_is_told(short: Path) -> None:
    (short / "var").write_text("a file")
    with pytest.raises(StartError, match=r"state_dir .* cannot be used"):
        State(short / "var", None).open()


def test_a_link_in_the_place_of_a_private_folder_is_refused(short: Path) -> None:
    (short / "elsewhere").mkdir(mode=0o755)
    (short / "var").mkdir()
    (short / "var" / "tmp").symlink_to(short / "elsewhere")
    held = State(short / "var", None)
    with pytest.raises(StartError, match="cannot be made ready"):
        held.open()
    held.close()
    assert (short / "elsewhere").stat().st_mode & 0o777 == 0o755
