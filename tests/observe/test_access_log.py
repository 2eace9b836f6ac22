"""The access log: its two formats, what nobody can forge, and a reader that stalls."""

import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import Clock
from proxy.message import FieldLine, Fields, Request
from proxy.observe import access_log
from proxy.observe.access_log import AccessLog, Format


def request_of(target: bytes = b"/a", fields: tuple[FieldLine, ...] = ()) -> Request:
    return Request(b"GET", target, 1, Fields(fields), b"/a", None, b"", b"")


def clock_at(log_time: str) -> Clock:
    clock = Clock()
    clock.log_time = log_time
    return clock


def logged(folder: Path, format_name: Format, request: Request | None, **changes: object) -> bytes:
    path = folder / "access.log"
    log = AccessLog(str(path), format_name, 65536, clock_at("[10/Oct/2000:13:55:36 -0700]"))
    values: dict[str, object] = {
        "status": 200,
        "sent_bytes": 2326,
        "duration_s": 0.0031415,
        "upstream_s": 0.002,
        "request_id": b"4af0",
    }
    log.add("192.0.2.1", request, **(values | changes))  # type: ignore[arg-type]
    log.close()
    written = path.read_bytes()
    path.unlink()
    return written


def test_a_combined_line_is_apaches_with_timings_and_the_request_id(tmp_path: Path) -> None:
    request = request_of(b"/a?b=c", ((b"Referer", b"http://r/"), (b"User-Agent", b"curl/8 (x)")))
    assert logged(tmp_path, "combined", request) == (
        b'192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.1" 200 2326 "http://r/"'
        b' "curl/8 (x)" 0.003142 0.002000 4af0\n'
    )


def test_what_there_was_not_is_a_hyphen(tmp_path: Path) -> None:
    line = logged(tmp_path, "combined", request_of(), upstream_s=-1.0, request_id=b"")
    assert line.endswith(b'"GET /a HTTP/1.1" 200 2326 "-" "-" 0.003142 - -\n')


def test_a_request_that_was_not_understood_is_logged_without_its_bytes(tmp_path: Path) -> None:
    line = logged(tmp_path, "combined", None, status=400)
    assert line.endswith(b'] "-" 400 2326 "-" "-" 0.003142 0.002000 4af0\n')


def test_a_json_line_has_plain_names_and_numbers(tmp_path: Path) -> None:
    request = request_of(b"/a", ((b"User-Agent", b'c"\xff\n'),))
    line = logged(tmp_path, "json", request)
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "time": "2000-10-10T13:55:36-07:00",
        "client": "192.0.2.1",
        "method": "GET",
        "target": "/a",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 2326,
        "duration_s": 0.003142,
        "upstream_s": 0.002,
        "referer": None,
        "user_agent": 'c"\\xff\n',
        "request_id": "4af0",
    }


def test_a_json_line_of_a_request_that_was_not_understood_has_nulls(tmp_path: Path) -> None:
    document = json.loads(logged(tmp_path, "json", None, upstream_s=-1.0, request_id=b""))
    nothing = {"method", "target", "protocol", "upstream_s", "referer", "user_agent", "request_id"}
    assert {name for name, value in document.items() if value is None} == nothing


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'a"b', r"a\"b"),
        (b"a\\b", r"a\\b"),
        (b"a\r\nb", r"a\r\nb"),
        (b"\x1b[31m", r"\x1b[31m"),
        (b"\x00\x7f\x80\xff", r"\x00\x7f\x80\xff"),
        (b"a\tb", r"a\tb"),
        ("é".encode(), r"\xc3\xa9"),
        (b"plain ~!#", "plain ~!#"),
    ],
)
def test_unsafe_bytes_are_escaped_as_apache_does(value: bytes, text: str) -> None:
    assert access_log.escape(value) == text.encode()


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=20), st.text(max_size=9))
def test_nothing_in_a_request_can_end_a_line_or_a_quotation(
    tmp_path_factory: pytest.TempPathFactory, target: bytes, agent: bytes, ident: bytes, client: str
) -> None:
    path = tmp_path_factory.mktemp("log") / "access.log"
    log = AccessLog(str(path), "combined", 65536, Clock())
    log.add(client, request_of(target, ((b"User-Agent", agent),)), 200, 1, 0.1, 0.1, ident)
    log.close()
    line = path.read_bytes()
    assert line.index(b"\n") == len(line) - 1
    assert line.isascii()
    assert line.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') == 6


def test_a_full_buffer_writes_itself_and_a_flush_writes_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), "combined", 4 * 256, Clock())
    for _ in range(5):
        log.add("::1", request_of(), 200, 1, 0.1, -1.0, b"x")
    assert path.read_bytes().count(b"\n") == 4
    log.flush()
    assert path.read_bytes().count(b"\n") == 5
    log.close()


def test_a_log_that_is_off_writes_nothing(tmp_path: Path) -> None:
    log = AccessLog("off", "combined", 65536, Clock())
    log.add("::1", request_of(), 200, 1, 0.1, -1.0, b"x")
    log.flush()
    log.reopen()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_rotation_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), "combined", 65536, Clock())
    for number in range(300):
        log.add("::1", request_of(b"/%d" % number), 200, 1, 0.1, -1.0, b"x")
        if number % 100 == 50:
            path.rename(tmp_path / f"access.log.{number}")
            log.reopen()
        if number % 7 == 0:
            log.flush()
    log.close()
    lines = b"".join(file.read_bytes() for file in tmp_path.iterdir()).splitlines()
    assert len(list(tmp_path.iterdir())) == 4
    assert {int(line.split(b"/")[3].split(b" ")[0]) for line in lines} == set(range(300))


def test_a_log_that_cannot_be_reopened_goes_on_in_the_old_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "access.log"), "combined", 65536, Clock())
    folder.rename(tmp_path / "moved")
    log.reopen()
    log.add("::1", request_of(), 200, 1, 0.1, -1.0, b"x")
    log.close()
    assert (tmp_path / "moved" / "access.log").read_bytes().count(b"\n") == 1
    assert "cannot be reopened" in caplog.text


def test_a_stalled_reader_costs_lines_and_never_holds_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(fifo), "combined", 1 << 30, Clock())
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            for _ in range(2000):
                log.add("::1", request_of(), 200, 1, 0.1, -1.0, b"x")
            log.flush()
        assert log.lost_lines == 6000
        assert "lines are being lost" in caplog.text
        received = drain(reader)
        log.flush()
        log.add("::1", request_of(), 204, 1, 0.1, -1.0, b"x")
        while log.lost_lines and "were lost" not in caplog.text:
            log.flush()
            received += drain(reader)
            log.add("::1", request_of(), 204, 1, 0.1, -1.0, b"x")
    log.close()
    received += drain(reader)
    os.close(reader)
    lines = received.split(b"\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"::1 - - [") and line.endswith(b" - x") for line in lines)
    assert sum(b'" 200 ' in line for line in lines) == 2000


def drain(reader: int) -> bytes:
    received = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except BlockingIOError:
            return received
        if not piece:
            return received
        received += piece


def test_header_texts_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_MEMO_ENTRIES", 10)
    values, clients = access_log._Memo(), access_log._Clients()
    for number in range(25):
        assert values[b"agent %d" % number] == b"agent %d" % number
        assert clients[f"10.0.0.{number}"] == b"10.0.0.%d" % number
    assert values[b"x" * 600] == b"x" * 600
    assert len(values) <= 10
    assert len(clients) <= 10
    assert b"x" * 600 not in values
