"""The log line and the figures, and the connection goes on."""

from typing import cast

import pytest

from proxy.message import Response
from proxy.observe.figures import METHODS, OTHER_METHOD
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.finish import finish
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route
from tests.pipeline.asking import Asking, Content, Recorded


@pytest.mark.parametrize(
    ("response", "began", "status"),
    [(Response(200, []), True, 200), (Response(200, []), False, 499), (None, False, 499)],
)
def test_the_log_says_what_the_client_was_sent(
    response: Response | None, began: bool, status: int
) -> None:
    asking = Asking(path=b"/a")
    asking.exchange.response = response
    asking.sink.began = began
    finish(asking.exchange)
    assert asking.log.lines == [(b"/a", status)]
    assert asking.sink.done == 1


def test_what_could_not_be_read_as_a_request_is_logged_without_one() -> None:
    asking = Asking(method=b"")
    finish(asking.exchange)
    assert asking.log.lines == [(b"-", 499)]


def finished(exchange: Exchange, began_at: float, body_bytes: int = 0) -> Exchange:
    exchange.response = Response(200, [])
    cast("Recorded", exchange.sink).began = True
    exchange.began_at = began_at
    exchange.body_bytes = body_bytes
    finish(exchange)
    return exchange


@pytest.mark.parametrize(
    ("method", "place"),
    [
        (b"GET", METHODS[b"GET"]),
        (b"POST", METHODS[b"POST"]),
        (b"MKCOL", OTHER_METHOD),
        (b"", OTHER_METHOD),
    ],
)
def test_a_request_counts_for_its_route_by_method_and_status(method: bytes, place: int) -> None:
    asking = Asking(method=method)
    asking.exchange.route = route = Route("a", respond)
    finished(asking.exchange, 4.0)
    assert route.figures.requests[place + 2] == sum(route.figures.requests) == 1
    assert sum(asking.site.figures.requests) == 0


def test_what_has_no_route_counts_for_the_site() -> None:
    asking = Asking()
    finish(asking.exchange)
    assert asking.site.figures.requests[METHODS[b"GET"] + 4] == 1


@pytest.mark.parametrize(
    ("took_s", "bucket"), [(0.0, 0), (0.0005, 0), (0.0006, 1), (60.0, 15), (61.0, 16)]
)
def test_how_long_it_took_counts_in_one_bucket(took_s: float, bucket: int) -> None:
    asking = Asking()
    asking.sink.now = lambda: took_s  # type: ignore[method-assign]
    finished(asking.exchange, 0.0)
    assert asking.site.figures.durations[bucket] == sum(asking.site.figures.durations) == 1
    assert asking.site.figures.duration_s == took_s


def test_contents_count_in_bytes_both_ways() -> None:
    content = Content(None)
    content.received = 70
    asking = Asking(body=content)  # type: ignore[arg-type]
    finished(asking.exchange, 4.0, body_bytes=5)
    assert (asking.site.figures.sent_bytes, asking.site.figures.received_bytes) == (5, 70)


def test_what_the_cache_asks_for_itself_is_not_counted() -> None:
    asking = Asking()
    asking.exchange.inner = True
    finished(asking.exchange, 4.0)
    assert sum(asking.site.figures.requests) == 0
