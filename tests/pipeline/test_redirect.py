"""Requests over http on a listener that wants https."""

import pytest

from proxy.errors import BadRequestError
from proxy.message import FieldLine
from proxy.pipeline.admit import admit
from proxy.pipeline.entrance import Entrance
from proxy.pipeline.respond import respond
from proxy.pipeline.route import route
from tests.pipeline.asking import Asking


def asking(port: int, *fields: FieldLine, host: bytes = b"h", path: bytes = b"/") -> Asking:
    made = Asking(host=host, path=path, fields=fields)
    made.exchange.peer.entrance = Entrance(https_port=port)
    return made


@pytest.mark.parametrize(
    ("port", "host", "path", "query", "location"),
    [
        (443, b"a.example", b"/", None, b"https://a.example/"),
        (443, b"a.example:8080", b"/a%20b", b"c=d", b"https://a.example/a%20b?c=d"),
        (8443, b"a.example:80", b"//b.example", b"", b"https://a.example:8443//b.example?"),
        (443, b"[::1]:80", b"/x", None, b"https://[::1]/x"),
        (8443, b"[::1]", b"/x", None, b"https://[::1]:8443/x"),
    ],
)
def test_a_request_over_http_goes_to_the_same_place_over_https(
    port: int, host: bytes, path: bytes, query: bytes | None, location: bytes
) -> None:
    exchange = asking(port, host=host, path=path).exchange
    exchange.request.query = query
    assert admit(exchange) is respond
    assert exchange.response is not None
    assert exchange.response.status == 308
    assert exchange.response.fields == [(b"Location", location)]


def test_a_trusted_proxy_s_word_that_it_was_https_holds() -> None:
    exchange = asking(443, (b"X-Forwarded-Proto", b"https")).exchange
    assert admit(exchange) is respond, "a stranger's word does not"
    exchange = asking(443, (b"X-Forwarded-Proto", b"https")).exchange
    exchange.peer.trusted = True
    assert admit(exchange) is route


def test_a_client_that_names_no_host_cannot_be_sent_anywhere() -> None:
    with pytest.raises(BadRequestError, match="no Host"):
        admit(asking(443, host=b"").exchange)
