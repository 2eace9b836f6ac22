"""Uploads and downloads: streamed to disk, given back whole and in parts, never as a page."""

import hashlib
import io
import tracemalloc
from http.client import HTTPConnection
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend.controller.state import State
from backend.factory import create_app
from backend.settings import Settings
from tests.backend.conftest import form_token, state_of
from tests.backend.served import served

JSON = {"Accept": "application/json"}
CONTENT = bytes(range(256)) * 400


def upload(
    client: FlaskClient,
    content: bytes = CONTENT,
    name: str = "data.bin",
    media_type: str | None = None,
) -> TestResponse:
    token = form_token(client, "/files")
    file = (io.BytesIO(content), name, media_type) if media_type else (io.BytesIO(content), name)
    return client.post("/files", data={"csrf": token, "file": file}, headers=JSON)


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "files").iterdir())


def test_an_upload_comes_back_as_it_was_given(client: FlaskClient) -> None:
    response = upload(client)
    assert response.status_code == 201
    values = response.get_json()
    assert values["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert values["size_bytes"] == len(CONTENT)
    assert response.headers["Location"] == values["url"] == f"/files/{values['id']}"
    with client.get(values["url"]) as download:
        assert download.data == CONTENT
        assert download.headers["Cache-Control"] == "private, no-cache"
        assert download.headers["ETag"] == f'"{values["sha256"]}"'
        assert download.headers["Content-Disposition"] == "attachment; filename=data.bin"
    assert client.get("/files", headers=JSON).get_json()["files"] == [values]
    assert values["sha256"] in client.get("/files").text


def test_a_person_gets_back_to_the_list(client: FlaskClient) -> None:
    form = {"csrf": form_token(client, "/files"), "file": (io.BytesIO(b"x"), "x.txt")}
    response = client.post("/files", data=form)
    assert (response.status_code, response.headers["Location"]) == (303, "/files")


def test_a_download_can_be_continued_and_checked(client: FlaskClient) -> None:
    url = upload(client).get_json()["url"]
    with client.get(url, headers={"Range": "bytes=100-199"}) as part:
        assert (part.status_code, part.data) == (206, CONTENT[100:200])
        etag = part.headers["ETag"]
    with client.get(url, headers={"Range": "bytes=100-", "If-Range": '"another"'}) as whole:
        assert (whole.status_code, len(whole.data)) == (200, len(CONTENT))
    with client.get(url, headers={"If-None-Match": etag}) as same:
        assert (same.status_code, same.data) == (304, b"")
    with client.get(url, headers={"Range": f"bytes={len(CONTENT)}-"}) as beyond:
        assert beyond.status_code == 416


@pytest.mark.parametrize(
    "media_type", ["text/html", "image/svg+xml", "te\xebxt/\u2603", "nonsense"]
)
def test_what_somebody_uploaded_is_no_page_of_this_site(
    client: FlaskClient, media_type: str
) -> None:
    values = upload(client, b"<script>alert(1)</script>", "a.html", media_type).get_json()
    with client.get(values["url"]) as download:
        assert download.status_code == 200
        assert download.headers["Content-Disposition"].startswith("attachment")
        assert download.headers["Content-Security-Policy"].startswith("sandbox")
        assert download.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("naïve ☃.txt", "naïve ☃.txt"),
        ("..", ".."),
        ("<b>.txt", "<b>.txt"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_name_is_shown_and_never_used_as_a_path(
    client: FlaskClient, settings: Settings, given: str, name: str
) -> None:
    values = upload(client, name=given).get_json()
    assert values["name"] == name
    assert [path.name for path in kept(settings.database.parent)] == [values["id"]]
    with client.get(values["url"]) as download:
        assert download.data == CONTENT
    assert "<b>" not in client.get("/files").text


def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(
    client: FlaskClient, settings: Settings
) -> None:
    response = upload(client, bytes(settings.upload_limit_bytes + 100_000))
    assert response.status_code == 413
    assert kept(settings.database.parent) == []


def test_the_oldest_files_make_room(client: FlaskClient, settings: Settings) -> None:
    urls = [upload(client, bytes([number]) * 150_000).get_json()["url"] for number in range(4)]
    assert len(kept(settings.database.parent)) == 2
    assert client.get(urls[0]).status_code == 404
    with client.get(urls[-1]) as newest:
        assert newest.status_code == 200


def test_a_form_without_a_file_is_asked_again(client: FlaskClient) -> None:
    token = form_token(client, "/files")
    for form in ({"csrf": token}, {"csrf": token, "file": (io.BytesIO(b""), "")}):
        response = client.post("/files", data=form, content_type="multipart/form-data")
        assert response.status_code == 422
        assert "Choose a file first" in response.text


def test_a_file_that_went_from_the_disk_is_not_found(client: FlaskClient, state: State) -> None:
    values = upload(client).get_json()
    (state.uploads.folder / values["id"]).unlink()
    assert client.get(values["url"]).status_code == 404


def _post_upload(port: int, cookie: str, token: str, size_bytes: int) -> tuple[int, bytes]:
    head = (
        f'--B\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{token}\r\n'
        '--B\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
    ).encode()
    tail = b"\r\n--B--\r\n"
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/files")
    connection.putheader("Content-Type", "multipart/form-data; boundary=B")
    connection.putheader("Content-Length", str(len(head) + size_bytes + len(tail)))
    connection.putheader("Cookie", cookie)
    connection.putheader("Accept", "application/json")
    connection.endheaders(head)
    piece = bytes(1 << 16)
    for _ in range(size_bytes // len(piece)):
        connection.send(piece)
    connection.send(tail)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_a_big_upload_goes_to_disk_and_not_to_memory(settings: Settings) -> None:
    size_bytes = 64 << 20
    limits = {"upload_limit_bytes": size_bytes, "uploads_total_bytes": 2 * size_bytes}
    app: Flask = create_app(Settings(database=settings.database, **limits))
    client = app.test_client()
    token = form_token(client, "/files")
    cookie = client.get_cookie("timeline")
    assert cookie is not None
    with served(app) as port:
        tracemalloc.start()
        try:
            pair = f"timeline={cookie.value}"
            status, answer = _post_upload(port, pair, token, size_bytes)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    state_of(app).database.close()
    assert (status, f'"size_bytes":{size_bytes}'.encode() in answer) == (201, True)
    assert peak_bytes < 8 << 20
