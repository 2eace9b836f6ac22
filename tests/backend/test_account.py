"""Signing in, up and out: the cookie, the token, and where one lands."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.backend.conftest import form_token, sign_in


def test_the_seeded_user_signs_in_and_lands_on_the_timeline(client: FlaskClient) -> None:
    response = sign_in(client, "mira")
    assert (response.status_code, response.headers["Location"]) == (303, "/timeline")
    assert client.get("/api/me").get_json()["user"]["name"] == "mira"
    assert client.get("/timeline").status_code == 200


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_the_cookie_is_for_http_only_and_secure_when_the_request_is(
    app: Flask, scheme: str, *, secure: bool
) -> None:
    client = app.test_client()
    base = f"{scheme}://localhost"
    cookie = client.get("/sign-in", base_url=base).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ("Secure" in cookie) is secure


@pytest.mark.parametrize(("name", "password"), [("mira", "wrong"), ("nobody", "timeline")])
def test_a_wrong_name_and_a_wrong_password_look_alike(
    client: FlaskClient, name: str, password: str
) -> None:
    response = sign_in(client, name, password)
    assert response.status_code == 422
    assert "do not belong together" in response.text
    assert f'value="{name}"' in response.text
    assert client.get("/api/me").get_json() == {"user": None}


@pytest.mark.parametrize(
    ("target", "landing"),
    [
        ("/u/leila?before=9", "/u/leila?before=9"),
        ("", "/timeline"),
        ("https://evil.test/", "/timeline"),
        ("//evil.test/", "/timeline"),
        ("/\\evil.test/", "/timeline"),
        ("/\tevil", "/timeline"),
        ("evil", "/timeline"),
    ],
)
def test_signing_in_leads_to_paths_of_this_site_only(
    client: FlaskClient, target: str, landing: str
) -> None:
    assert sign_in(client, "mira", next_path=target).headers["Location"] == landing


def test_a_stranger_is_asked_to_sign_in_and_comes_back(client: FlaskClient) -> None:
    asked = client.get("/timeline?before=9")
    assert asked.status_code == 303
    assert asked.headers["Location"] == "/sign-in?next=/timeline?before%3D9"
    assert 'value="/timeline?before=9"' in client.get(asked.headers["Location"]).text


def test_signing_in_leaves_nothing_of_the_session_before(client: FlaskClient) -> None:
    prepared = form_token(client, "/sign-in")
    sign_in(client, "mira")
    assert client.post("/sign-out", data={"csrf": prepared}).status_code == 403
    assert form_token(client, "/timeline") != prepared


def test_signing_out_ends_the_session(mira: FlaskClient) -> None:
    response = mira.post("/sign-out", data={"csrf": form_token(mira, "/timeline")})
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert mira.get("/api/me").get_json() == {"user": None}


def test_a_forged_cookie_signs_nobody_in(client: FlaskClient) -> None:
    client.set_cookie("timeline", "eyJ1c2VyIjoxfQ.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb")
    assert client.get("/api/me").get_json() == {"user": None}


def sign_up(client: FlaskClient, **form: str) -> tuple[int, str]:
    token = form_token(client, "/sign-up")
    response = client.post("/sign-up", data=form | {"csrf": token})
    return response.status_code, response.text


def test_a_new_user_is_signed_in_at_once_and_has_a_profile(client: FlaskClient) -> None:
    status, _ = sign_up(client, name="Nora_1", display_name="  Nora   Ek ", password="longenough")
    assert status == 303
    assert client.get("/api/me").get_json()["user"]["display_name"] == "Nora Ek"
    assert "Nora Ek" in client.get("/u/nora_1").text
    assert "Nora Ek" in client.get("/").text


@pytest.mark.parametrize(
    ("name", "display_name", "password", "says"),
    [
        ("mira", "", "longenough", "is taken"),
        ("API", "", "longenough", "is taken"),
        ("a", "", "longenough", "2 to 20 letters"),
        ("a b", "", "longenough", "2 to 20 letters"),
        ("nora", "x" * 41, "longenough", "40 characters"),
        ("nora", "a\u202eb", "longenough", "40 characters"),
        ("nora", "", "short", "at least 8"),
        ("nora", "", "x" * 129, "at least 8"),
    ],
)
def test_what_is_wrong_with_a_new_account_is_said_and_what_was_typed_is_kept(
    client: FlaskClient, name: str, display_name: str, password: str, says: str
) -> None:
    status, text = sign_up(client, name=name, display_name=display_name, password=password)
    assert status == 422
    assert says in text
    assert f'name="name" value="{name}"' in text
    assert password not in text
    assert client.get("/api/me").get_json() == {"user": None}
