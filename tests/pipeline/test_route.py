"""The first route that matches answers; what is over its limit is refused before it is read."""

from typing import cast

import pytest

from proxy.errors import ContentTooLargeError, NotFoundError
from proxy.message import RequestBody
from proxy.pipeline.respond import respond
from proxy.pipeline.route import route
from proxy.pipeline.site import Route
from tests.pipeline.asking import Asking, Content


def test_the_first_route_that_matches_answers() -> None:
    routes = [Route("one", respond, b"/a"), Route("two", respond), Route("three", respond)]
    asking = Asking(*routes, path=b"/b")
    assert route(asking.exchange) is respond
    assert asking.exchange.route is routes[1]


def test_what_no_route_matches_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        route(Asking(Route("one", respond, b"/a"), path=b"/b").exchange)
    with pytest.raises(NotFoundError):
        route(Asking().exchange)


@pytest.mark.parametrize(
    ("length", "refused"), [(None, False), (0, False), (10, False), (11, True)]
)
def test_content_over_the_limit_of_its_route_is_refused(length: int | None, refused: bool) -> None:
    candidate = Route("uploads", respond)
    candidate.body_limit = 10
    body = Content(length)
    asking = Asking(candidate, body=cast("RequestBody", body))
    if refused:
        with pytest.raises(ContentTooLargeError, match="uploads takes at most 10"):
            route(asking.exchange)
    else:
        assert route(asking.exchange) is respond
    assert body.limit_bytes == 10


def test_a_prefix_that_is_cut_off_must_be_spelled_as_it_is_configured() -> None:
    candidate = Route("app", respond, b"/app/*")
    candidate.strip_prefix = b"/app"
    asking = Asking(candidate, path=b"/%61pp/x")
    asking.exchange.request.route_path = b"/app/x"
    with pytest.raises(NotFoundError):
        route(asking.exchange)
    asking = Asking(candidate, path=b"/app/%78")
    asking.exchange.request.route_path = b"/app/x"
    assert route(asking.exchange) is respond
