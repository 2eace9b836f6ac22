"""What the application's process does about files that proxyd sends."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, send_file
from werkzeug.test import Client

from proxy.process.wsgi_sendfile import leave_files_to_proxyd

Environ = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("private", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.bin").write_bytes(bytes(range(256)) * 1024)
    (tmp_path / "private" / "é.txt").write_text("é")
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Client:
    app = Flask(__name__)

    @app.get("/<path:name>")
    def send(name: str) -> Any:
        return send_file(folder / name)

    return Client(leave_files_to_proxyd(app, [str(folder / "private")]))


def test_flask_names_a_file_and_sends_nothing(folder: Path, client: Client) -> None:
    answer = client.get("/private/a.bin")
    assert answer.headers["X-Sendfile"] == str(folder / "private" / "a.bin")
    assert (answer.headers["Content-Length"], answer.data) == ("0", b"")


def test_a_name_goes_out_as_bytes(folder: Path, client: Client) -> None:
    name = client.get("/private/é.txt").headers["X-Sendfile"]
    assert name.encode("latin-1") == os.fsencode(folder / "private" / "é.txt")


def test_a_file_elsewhere_is_sent_from_here(folder: Path, client: Client) -> None:
    content = (folder / "elsewhere" / "a.bin").read_bytes()
    answer = client.get("/elsewhere/a.bin")
    assert "X-Sendfile" not in answer.headers
    assert (answer.headers["Content-Length"], answer.data) == (str(len(content)), content)


def test_a_part_of_a_file_elsewhere_is_sent_from_here(client: Client) -> None:
    answer = client.get("/elsewhere/a.bin", headers={"Range": "bytes=1-3"})
    assert (answer.status_code, answer.data) == (206, b"\1\2\3")
    assert answer.headers["Content-Range"] == "bytes 1-3/262144"


def test_a_head_of_a_file_elsewhere_has_its_length(client: Client) -> None:
    answer = client.head("/elsewhere/a.bin")
    assert (answer.headers["Content-Length"], answer.data) == ("262144", b"")
    assert "X-Sendfile" not in answer.headers


def said(folder: Path, status: str, *headers: tuple[str, str]) -> Client:
    def application(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        start(status, list(headers))
        return [b"content"]

    return Client(leave_files_to_proxyd(application, [str(folder)]))


def test_other_answers_are_let_alone(folder: Path) -> None:
    assert said(folder, "200 OK", ("A", "b")).get("/").data == b"content"
    answer = said(folder, "304 Not Modified", ("X-Sendfile", "/x")).get("/")
    assert answer.headers["X-Sendfile"] == "/x"


def test_a_redirect_has_no_content(folder: Path) -> None:
    answer = said(folder, "200 OK", ("X-Accel-Redirect", "/a"), ("Content-Length", "7")).get("/")
    assert (answer.data, answer.headers["X-Accel-Redirect"]) == (b"", "/a")
    assert answer.headers.getlist("Content-Length") == ["0"]


@pytest.mark.parametrize("name", ["/nowhere/a", "/nowhere/\xff", "/nowhere/\u20ac"])
def test_a_file_that_is_not_there_is_for_proxyd_to_tell(folder: Path, name: str) -> None:
    assert said(folder, "200 OK", ("X-Sendfile", name)).get("/").headers["X-Sendfile"] == name


def test_a_whole_file_of_unknown_length_is_sent(folder: Path, tmp_path: Path) -> None:
    path = folder / "elsewhere" / "a.bin"
    client = said(folder / "private", "200 OK", ("X-Sendfile", str(path)))
    assert client.get("/").data == path.read_bytes()
