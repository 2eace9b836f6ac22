"""Which requests may be forwarded with their Upgrade. RFC 9110 §7.8."""

from typing import cast

import pytest

from proxy.errors import UpstreamError
from proxy.message import FieldLine, Fields, RequestBody
from proxy.pipeline.upgrade import switch, wanted_protocol
from proxy.upstream.response import UpstreamResponse
from tests.pipeline.asking import Asking, Content

WEBSOCKET = (b"Upgrade", b"websocket")
ASKS = (b"Connection", b"keep-alive, Upgrade")


@pytest.mark.parametrize(
    ("fields", "protocol"),
    [
        ((ASKS, WEBSOCKET), b"websocket"),
        ((WEBSOCKET,), None),
        ((ASKS,), None),
        ((ASKS, (b"Upgrade", b"")), None),
        (((b"Connection", b"close"), WEBSOCKET), None),
        ((ASKS, (b"Upgrade", b"h2c")), None),
        ((ASKS, (b"Upgrade", b"websocket, H2C")), None),
        ((ASKS, (b"Upgrade", b"a, b/2")), b"a, b/2"),
    ],
)
def test_an_upgrade_is_wanted_when_both_fields_say_so(
    fields: tuple[FieldLine, ...], protocol: bytes | None
) -> None:
    assert wanted_protocol(Asking(fields=fields).exchange.request) == protocol


def test_http_1_0_and_requests_with_content_are_not_upgraded() -> None:
    old = Asking(fields=(ASKS, WEBSOCKET), minor_version=0)
    assert wanted_protocol(old.exchange.request) is None
    body = cast("RequestBody", Content(1))
    loaded = Asking(fields=(ASKS, WEBSOCKET), body=body)
    assert wanted_protocol(loaded.exchange.request) is None


class Lost:
    """A connection that was lost in the turn of its 101."""

    def detach(self) -> None:
        raise UpstreamError("closed the connection behind its 101")


async def test_an_upstream_that_is_gone_behind_its_101_has_failed() -> None:
    asking = Asking()
    answer = UpstreamResponse(101, b"", Fields(), None, upgraded=True)
    with pytest.raises(UpstreamError):
        await switch(asking.exchange, Lost(), answer)  # type: ignore[arg-type]
    assert asking.exchange.response is None
