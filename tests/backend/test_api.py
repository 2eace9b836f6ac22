"""The JSON API."""

from typing import Any

import pytest
from flask.testing import FlaskClient


def test_posts_come_latest_first_and_name_the_page_behind(client: FlaskClient) -> None:
    first = client.get("/api/posts?before=10").get_json()
    assert [post["id"] for post in first["posts"]] == list(range(9, 0, -1))
    assert first["older"] is None
    assert set(first["posts"][0]) == {
        "id", "author", "display_name", "avatar", "text", "posted_at",
    }  # fmt: skip
    assert first["posts"][0]["avatar"].startswith("/static/img/avatar-")


def test_a_stranger_is_nobody_and_gets_no_cookie(client: FlaskClient) -> None:
    response = client.get("/api/me")
    assert response.get_json() == {"user": None}
    assert "Set-Cookie" not in response.headers
    assert response.headers["Cache-Control"] == "private, no-store"


def test_a_program_posts_with_the_token_of_its_session(mira: FlaskClient) -> None:
    token = mira.get("/api/me").get_json()["csrf"]
    response = mira.post(
        "/api/posts", json={"text": "Hi\r\nthere "}, headers={"X-CSRF-Token": token}
    )
    assert response.status_code == 201
    post = response.get_json()
    assert (post["author"], post["text"]) == ("mira", "Hi\nthere")
    assert mira.get("/api/posts").get_json()["posts"][0] == post


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {"text": ""}}, 422),
        ({"json": {"text": 7}}, 400),
        ({"json": {}}, 400),
        ({"json": ["text"]}, 400),
        ({"data": "{", "content_type": "application/json"}, 400),
        ({"data": "\xff", "content_type": "application/json"}, 400),
        ({"data": {"text": "Hi"}}, 415),
        ({"json": {"text": "x" * 70_000}}, 413),
    ],
)
def test_a_post_that_is_none_is_refused_as_json(
    mira: FlaskClient, sent: dict[str, Any], status: int
) -> None:
    token = mira.get("/api/me").get_json()["csrf"]
    response = mira.post("/api/posts", headers={"X-CSRF-Token": token}, **sent)
    assert response.status_code == status
    assert response.get_json()["status"] == status


def test_a_stranger_who_posts_is_told_to_sign_in(client: FlaskClient) -> None:
    response = client.post("/api/posts", json={"text": "Hi"})
    assert (response.status_code, response.get_json()["text"]) == (401, "Sign in first.")
