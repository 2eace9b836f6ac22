"""Errors: HTML for people, JSON for programs, and never their cause."""

import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("path", "accept", "media_type"),
    [
        ("/nowhere", BROWSER, "text/html"),
        ("/nowhere", "*/*", "text/html"),
        ("/nowhere", None, "text/html"),
        ("/nowhere", "application/json", "application/json"),
        ("/api/nowhere", BROWSER, "application/json"),
        ("/u/nobody", BROWSER, "text/html"),
        ("/u/nobody", "application/json, text/html;q=0.5", "application/json"),
    ],
)
def test_an_error_comes_as_the_client_reads_it(
    client: FlaskClient, path: str, accept: str | None, media_type: str
) -> None:
    response = client.get(path, headers={"Accept": accept} if accept else {})
    assert response.status_code == 404
    assert response.mimetype == media_type
    assert "Accept" in response.vary
    assert response.headers["Cache-Control"] == "no-store"
    if media_type == "application/json":
        assert response.get_json()["status"] == 404


def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient) -> None:
    response = client.delete("/timeline")
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_fault_goes_to_the_log_and_not_to_the_client(
    app: Flask, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    def broken() -> str:
        raise RuntimeError("the reason")

    app.testing = False
    app.add_url_rule("/broken", view_func=broken)
    with caplog.at_level(logging.ERROR):
        response = app.test_client().get("/broken", headers={"Accept": accept})
    assert response.status_code == 500
    assert response.mimetype == accept
    assert "the reason" not in response.text
    assert "the reason" in caplog.text


def test_a_form_beyond_its_limit_is_refused(client: FlaskClient) -> None:
    client.get("/sign-in")
    assert client.post("/sign-in", data={"name": "x" * 70_000}).status_code == 413


def test_a_form_of_nobody_is_refused_before_it_is_read(client: FlaskClient) -> None:
    assert client.post("/sign-in", data={"name": "x" * 70_000}).status_code == 403
