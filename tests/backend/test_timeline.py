"""One person's timeline: reading, writing, following."""

import re

import pytest
from flask.testing import FlaskClient

from tests.backend.conftest import form_token


def authors(page: str) -> set[str]:
    return set(re.findall(r'class="handle">@(\w+)<', page))


def test_a_timeline_holds_ones_own_posts_and_those_one_follows(mira: FlaskClient) -> None:
    response = mira.get("/timeline")
    assert response.headers["Cache-Control"] == "private, no-store"
    assert authors(response.text) == {"mira", "jonas", "leila", "tomas"}


def test_a_post_is_on_the_front_page_and_the_timeline(mira: FlaskClient) -> None:
    form = {"text": "Good morning", "csrf": form_token(mira, "/timeline")}
    response = mira.post("/posts", data=form)
    assert (response.status_code, response.headers["Location"]) == (303, "/timeline")
    assert "Good morning" in mira.get("/timeline").text
    assert "Good morning" in mira.get("/").text


@pytest.mark.parametrize(
    ("text", "says"),
    [(" \n ", "Write something"), ("x" * 281, "281 characters"), ("a\x00b", "control characters")],
)
def test_a_text_that_cannot_be_posted_is_given_back_with_the_reason(
    mira: FlaskClient, text: str, says: str
) -> None:
    response = mira.post("/posts", data={"text": text, "csrf": form_token(mira, "/timeline")})
    assert response.status_code == 422
    assert says in response.text
    assert text.strip("\n ") in response.text


def test_a_stranger_who_posts_is_sent_to_sign_in(client: FlaskClient) -> None:
    form = {"text": "Hello", "csrf": form_token(client, "/sign-in")}
    response = client.post("/posts", data=form)
    assert (response.status_code, response.headers["Location"]) == (303, "/sign-in")


def test_following_and_unfollowing_change_the_timeline(mira: FlaskClient) -> None:
    token = form_token(mira, "/timeline")
    for _ in range(2):  # following twice is following
        response = mira.post("/u/femi/follow", data={"csrf": token})
        assert (response.status_code, response.headers["Location"]) == (303, "/u/femi")
    assert "femi" in authors(mira.get("/timeline").text)
    assert mira.get("/api/me?about=femi").get_json()["following"] is True
    for _ in range(2):
        assert mira.post("/u/femi/unfollow", data={"csrf": token}).status_code == 303
    assert "femi" not in authors(mira.get("/timeline").text)
    assert mira.get("/api/me?about=femi").get_json()["following"] is False


def test_a_script_that_follows_gets_the_new_count(mira: FlaskClient) -> None:
    form = {"csrf": form_token(mira, "/timeline")}
    headers = {"Accept": "application/json"}
    followed = mira.post("/u/femi/follow", data=form, headers=headers).get_json()
    left = mira.post("/u/femi/unfollow", data=form, headers=headers).get_json()
    assert followed["following"] is True
    assert left == {"following": False, "followers": followed["followers"] - 1}


@pytest.mark.parametrize(("name", "status"), [("mira", 422), ("nobody", 404)])
def test_nobody_follows_themselves_or_nobody(mira: FlaskClient, name: str, status: int) -> None:
    response = mira.post(f"/u/{name}/follow", data={"csrf": form_token(mira, "/timeline")})
    assert response.status_code == status
