"""Public pages: the same bytes for everybody, checked with an ETag."""

import re

import pytest
from flask.testing import FlaskClient

SHARED = "public, max-age=2, stale-while-revalidate=30"
PUBLIC = ["/", "/?before=10", "/u/mira", "/api/posts", "/api/posts?before=10"]


@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_page_is_the_same_for_everybody(
    client: FlaskClient, mira: FlaskClient, path: str
) -> None:
    strangers, miras = client.get(path), mira.get(path)
    assert strangers.data == miras.data
    for response in (strangers, miras):
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == SHARED
        assert "Set-Cookie" not in response.headers
        assert "Cookie" not in response.vary


@pytest.mark.parametrize("path", PUBLIC)
def test_a_page_that_the_client_holds_is_not_sent_again(client: FlaskClient, path: str) -> None:
    etag = client.get(path).headers["ETag"]
    again = client.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == etag
    assert again.headers["Cache-Control"] == SHARED


def test_a_new_post_changes_the_etag(mira: FlaskClient) -> None:
    etag = mira.get("/").headers["ETag"]
    token = mira.get("/api/me").get_json()["csrf"]
    mira.post("/posts", data={"text": "News", "csrf": token})
    changed = mira.get("/", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert "News" in changed.text


def test_older_posts_follow_without_a_gap(mira: FlaskClient) -> None:
    token = mira.get("/api/me").get_json()["csrf"]
    for number in range(30):
        answer = mira.post(
            "/api/posts", json={"text": f"Post {number}"}, headers={"X-CSRF-Token": token}
        )
        assert answer.status_code == 201
    found: list[int] = []
    path: str | None = "/"
    while path:
        page = mira.get(path).text
        found += [int(number) for number in re.findall(r'id="post-(\d+)"', page)]
        older = re.search(r'href="([^"]+)" rel="next"', page)
        path = older[1] if older else None
    assert found == list(range(found[0], 0, -1))
    assert len(found) > 40


@pytest.mark.parametrize("before", ["", "-1", "x", "1.5", "٣", "9" * 16, "9" * 99])
@pytest.mark.parametrize("path", ["/", "/u/mira", "/api/posts"])
def test_a_page_number_that_is_none_is_refused(client: FlaskClient, path: str, before: str) -> None:
    response = client.get(path, query_string={"before": before})
    assert response.status_code == 400
    assert "number of a post" in response.text


def test_a_profile_shows_only_its_owners_posts(client: FlaskClient) -> None:
    page = client.get("/u/mira").text
    assert set(re.findall(r'class="handle">@(\w+)<', page)) == {"mira"}


def test_text_of_a_post_is_never_markup(mira: FlaskClient) -> None:
    token = mira.get("/api/me").get_json()["csrf"]
    mira.post("/posts", data={"text": "<script>alert(1)</script>", "csrf": token})
    assert "<script>alert" not in mira.get("/").text
    assert "&lt;script&gt;alert" in mira.get("/").text


def test_the_favicon_of_old_habit_leads_to_the_real_one(client: FlaskClient) -> None:
    response = client.get("/favicon.ico")
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/static/img/favicon.")


@pytest.mark.parametrize(
    ("path", "group"), [("/", "posts"), ("/api/posts", "posts"), ("/u/mira", "profile-mira")]
)
def test_a_page_is_in_the_group_that_a_post_invalidates(
    mira: FlaskClient, path: str, group: str
) -> None:
    assert mira.get(path).headers["Cache-Groups"] == f'"{group}"'
    token = mira.get("/api/me").get_json()["csrf"]
    posted = mira.post("/posts", data={"text": "News", "csrf": token})
    assert f'"{group}"' in posted.headers["Cache-Group-Invalidation"]
