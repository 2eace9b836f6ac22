"""What did not work out: a page for the client, the reason for the log, never the other way."""

import json
import logging
from http import HTTPStatus

import pytest

from proxy import errors
from proxy.errors import (
    ClientGoneError,
    ContentTooLargeError,
    HttpError,
    NotFoundError,
    StoredContentError,
)
from proxy.pipeline.fail import HINTS, error_response, fail, step_after
from proxy.pipeline.finish import finish
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route
from tests.pipeline.asking import Asking

ALL = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HttpError)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_intended_failure_has_a_page_of_its_own(kind: type[HttpError]) -> None:
    assert kind.status in HINTS
    response = error_response(kind("secret"), None)
    assert isinstance(response.body, bytes)
    assert HTTPStatus(kind.status).phrase.encode() in response.body
    assert HINTS[kind.status].encode() in response.body
    assert b"secret" not in response.body
    assert (b"Cache-Control", b"no-store") in response.fields


def test_who_prefers_json_gets_json() -> None:
    response = error_response(NotFoundError("secret"), b"application/json")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {
        "status": 404,
        "title": "Not Found",
        "detail": HINTS[404],
    }
    assert (b"Content-Type", b"application/json") in response.fields


def test_a_failure_brings_its_fields_along() -> None:
    response = error_response(HttpError("busy", ((b"Retry-After", b"1"),)), None)
    assert (b"Retry-After", b"1") in response.fields


@pytest.mark.parametrize(
    ("error", "level"),
    [(NotFoundError("no such file"), logging.INFO), (HttpError("no disk"), logging.ERROR)],
)
def test_the_reason_goes_to_the_log(
    error: HttpError, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asking = Asking(path=b"/\xff")
    asking.exchange.failure = error
    asking.exchange.upstream_name = "demo"
    assert fail(asking.exchange) is respond
    (record,) = caplog.records
    assert record.levelno == level
    assert str(error) in record.getMessage()
    assert r"GET /\xff, upstream demo" in record.getMessage()


def test_a_failure_without_a_reason_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    asking = Asking()
    assert fail(asking.exchange) is respond
    assert asking.exchange.response is not None
    assert asking.exchange.response.status == 500
    assert "upstream" not in caplog.text


def test_what_began_is_not_answered_again() -> None:
    asking = Asking()
    asking.sink.began = True
    asking.exchange.failure = NotFoundError("x")
    assert fail(asking.exchange) is finish
    assert asking.exchange.response is None


@pytest.mark.parametrize(("error", "closing"), [(ContentTooLargeError, True), (HttpError, False)])
def test_a_failure_that_leaves_the_framing_in_doubt_ends_the_connection(
    error: type[HttpError], closing: bool
) -> None:
    asking = Asking()
    asking.exchange.failure = error("x")
    fail(asking.exchange)
    assert asking.sink.closing == closing


def test_the_headers_of_a_route_do_not_replace_those_of_the_page() -> None:
    asking = Asking()
    asking.exchange.route = Route("r", respond)
    asking.exchange.failure = NotFoundError("x")
    fail(asking.exchange)
    assert asking.exchange.response is not None
    bare = list(asking.exchange.response.fields)
    asking.exchange.route.headers = (
        (b"cache-control", b"max-age=31536000"),
        (b"Strict-Transport-Security", b"max-age=1"),
    )
    fail(asking.exchange)
    assert asking.exchange.response.fields == [
        *bare,
        (b"Strict-Transport-Security", b"max-age=1"),
    ]


def test_after_a_client_that_left_there_is_only_the_log() -> None:
    asking = Asking()
    assert step_after(asking.exchange, ClientGoneError("left")) is finish
    assert asking.exchange.failure is None


def test_stored_content_that_is_seen_too_late_to_be_damaged_is_a_failure_like_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asking = Asking()
    assert step_after(asking.exchange, StoredContentError("its block 4 …")) is fail
    assert asking.exchange.failure is not None
    assert asking.exchange.failure.status == 500
    assert caplog.records == []


def test_an_error_that_nobody_foresaw_is_a_500_and_a_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asking = Asking()
    assert step_after(asking.exchange, ZeroDivisionError("secret")) is fail
    assert asking.exchange.failure is not None
    assert asking.exchange.failure.status == 500
    assert caplog.records[0].exc_info is not None
