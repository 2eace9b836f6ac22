"""The error log: its lines, what cannot be forged, and rotation under a writer."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.observe import logs

HEAD = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d{4} "


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_has_time_level_process_and_message(tmp_path: Path) -> None:
    logs.configure(str(tmp_path / "error.log"), "worker 1")
    logging.getLogger("proxy.any").warning("%s: cannot connect", "timeline")
    line = (tmp_path / "error.log").read_text()
    assert re.fullmatch(HEAD + r"WARNING worker 1: timeline: cannot connect\n", line)


def test_a_relayed_line_carries_the_name_of_its_process(tmp_path: Path) -> None:
    logs.configure(str(tmp_path / "error.log"), "master")
    logs.relay("app timeline", "100% ready")
    line = (tmp_path / "error.log").read_text()
    assert re.fullmatch(HEAD + r"INFO app timeline: 100% ready\n", line)


def test_a_message_cannot_begin_a_second_line_or_move_the_cursor(tmp_path: Path) -> None:
    logs.configure(str(tmp_path / "error.log"), "worker 1")
    logging.getLogger("proxy").error("a\n2026-01-01 forged\r\x1b[2J\u2028\u202eé\t\udc80")
    text = (tmp_path / "error.log").read_text()
    assert text.endswith("worker 1: a\\n2026-01-01 forged\\r\\x1b[2J\\u2028\\u202eé\t\\udc80\n")
    assert text.count("\n") == 1


def test_a_traceback_is_indented_so_that_it_cannot_forge_a_record(tmp_path: Path) -> None:
    logs.configure(str(tmp_path / "error.log"), "worker 1")
    try:
        int("x\n2026-01-01 00:00:00.000 +0000 INFO master: forged")
    except ValueError:
        logging.getLogger("proxy").exception("it failed")
    first, *rest = (tmp_path / "error.log").read_text().splitlines()
    assert first.endswith("ERROR worker 1: it failed")
    assert rest[0] == "    | Traceback (most recent call last):"
    assert all(line.startswith("    | ") for line in rest)


def test_a_very_long_message_is_cut(tmp_path: Path) -> None:
    logs.configure(str(tmp_path / "error.log"), "worker 1")
    logging.getLogger("proxy").error("x" * 100_000)
    assert (tmp_path / "error.log").stat().st_size < 17_000


def test_the_level_decides_what_is_written(tmp_path: Path) -> None:
    logs.configure(str(tmp_path / "error.log"), "worker 1", "warning")
    logging.getLogger("proxy").info("not this")
    logging.getLogger("proxy").warning("this")
    assert (tmp_path / "error.log").read_text().count("\n") == 1


def test_reopening_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    log = logs.configure(str(path), "master")
    logging.getLogger("proxy").error("before")
    path.rename(tmp_path / "error.log.1")
    logging.getLogger("proxy").error("between")
    log.reopen()
    logging.getLogger("proxy").error("after")
    assert path.read_text().endswith("after\n")
    assert (tmp_path / "error.log.1").read_text().count("\n") == 2


def test_configuring_again_lets_the_first_log_go(tmp_path: Path) -> None:
    logs.configure(str(tmp_path / "one.log"), "master")
    logs.configure(str(tmp_path / "two.log"), "master")
    logging.getLogger("proxy").error("x")
    assert (tmp_path / "one.log").read_text() == ""
    assert (tmp_path / "two.log").read_text() != ""


def test_a_stalled_reader_loses_records_and_is_told_how_many(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = logs.configure(str(fifo), "master")
    logger = logging.getLogger("proxy")
    while not log.lost_records:
        logger.error("x" * 900)
    logger.error("lost too")
    received = os.read(reader, 1 << 20)
    logger.error("the reader is back")
    received += os.read(reader, 1 << 20)
    os.close(reader)
    assert received.endswith(b"ERROR master: the reader is back\n")
    assert b"ERROR master: 2 records were lost before this one\n" in received


def test_a_record_that_cannot_be_formatted_does_not_raise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure(str(tmp_path / "error.log"), "master")
    logging.getLogger("proxy").error("%d", "not a number")
    assert "not a number" in capfd.readouterr().err
    assert (tmp_path / "error.log").read_text() == ""


def test_standard_error_is_a_log_that_rotation_leaves_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = logs.configure("stderr", "master")
    log.reopen()
    logging.getLogger("proxy").error("to the terminal")
    log.close()
    sys.stderr.flush()
    assert capfd.readouterr().err.endswith("ERROR master: to the terminal\n")
