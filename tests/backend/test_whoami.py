"""/whoami, /slow and /health."""

import pytest
from flask.testing import FlaskClient

from backend.controller.state import State

JSON = {"Accept": "application/json"}


def test_whoami_shows_what_flask_saw_and_corrects_nothing(client: FlaskClient) -> None:
    seen = client.get(
        "/whoami?a=b",
        base_url="https://shop.test:8443",
        headers={**JSON, "X-Forwarded-For": "203.0.113.7"},
        environ_base={"REMOTE_ADDR": "198.51.100.4"},
    ).get_json()
    assert seen["remote_addr"] == "198.51.100.4"
    assert seen["is_secure"] is True
    assert seen["host"] == "shop.test:8443"
    assert seen["url"] == "https://shop.test:8443/whoami?a=b"
    assert seen["external_url"] == "https://shop.test:8443/whoami"
    assert ["X-Forwarded-For", "203.0.113.7"] in seen["fields"]


def test_whoami_never_shows_a_secret_to_scripts(client: FlaskClient) -> None:
    client.set_cookie("timeline", "treasure")
    for accept in ("text/html", "application/json"):
        headers = {"Accept": accept, "Authorization": "Basic treasure"}
        assert "treasure" not in client.get("/whoami", headers=headers).text


def test_whoami_escapes_what_the_client_sent(client: FlaskClient) -> None:
    page = client.get("/whoami", headers={"X-Odd": "<b>bold</b>"}).text
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page
    assert "request.remote_addr" in page


def test_slow_takes_the_time_that_was_asked_for(client: FlaskClient) -> None:
    answer = client.get("/slow?seconds=0.05", headers=JSON).get_json()
    assert answer["asked_s"] == 0.05
    assert answer["took_s"] >= 0.05
    assert client.get("/slow?seconds=0").mimetype == "text/plain"


@pytest.mark.parametrize("seconds", ["-1", "30.1", "nan", "inf", "x", ""])
def test_slow_refuses_times_beyond_its_bounds(client: FlaskClient, seconds: str) -> None:
    assert client.get("/slow", query_string={"seconds": seconds}).status_code == 400


def test_health_follows_the_database(client: FlaskClient, state: State) -> None:
    assert client.get("/health").get_json() == {"status": "ok"}
    with state.database.write() as session:
        session.connection().exec_driver_sql("DROP TABLE posts")
    broken = client.get("/health")
    assert broken.status_code == 503
    assert broken.headers["Cache-Control"] == "private, no-store"
