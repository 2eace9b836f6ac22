"""Outlets: whole lines, never a wait, never a flag on somebody else's open file."""

import os
from pathlib import Path

import pytest

from proxy.observe.outlet import STDOUT, Outlet


def test_standard_output_stays_blocking_for_those_who_share_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    outlet = Outlet(STDOUT)
    assert outlet.write(b"a line\n")
    assert os.get_blocking(1)
    outlet.close()
    assert capfd.readouterr().out == "a line\n"


def test_a_pipe_takes_more_than_it_holds_as_its_reader_reads(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    outlet = Outlet(str(fifo))
    batch = b"0123456789abcde\n" * 20_000
    assert outlet.write(batch)
    received = b""
    while len(received) < len(batch):
        received += os.read(reader, 65536)
        outlet.write(b"")
    os.close(reader)
    outlet.close()
    assert received == batch


def test_lines_for_a_reader_that_left_are_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    outlet = Outlet(str(fifo))
    os.close(reader)
    assert not outlet.write(b"x\n")
    outlet.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_lines_for_a_full_disk_are_refused() -> None:
    outlet = Outlet("/dev/full")
    assert not outlet.write(b"x\n")
    outlet.close()


def test_a_log_is_not_readable_by_everybody(tmp_path: Path) -> None:
    Outlet(str(tmp_path / "log")).close()
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_a_closed_outlet_refuses_lines_and_may_be_closed_again(tmp_path: Path) -> None:
    outlet = Outlet(str(tmp_path / "log"))
    outlet.close()
    assert not outlet.write(b"x\n")
    outlet.close()
    assert (tmp_path / "log").read_bytes() == b""
