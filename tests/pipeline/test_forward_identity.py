"""Who a client certificate names is for that client's requests only."""

from proxy.message import Fields
from proxy.pipeline.exchange import Exchange, Peer
from proxy.pipeline.forward import request_head
from proxy.pipeline.site import Route
from proxy.pipeline.static import static
from tests.pipeline.asking import Asking

MIRA = ((b"X-Client-Cert-Verify", b"SUCCESS"), (b"X-Client-Cert-Subject", b"CN=mira"))
NOBODY = ((b"X-Client-Cert-Verify", b"NONE"),)


def test_clients_of_one_address_that_share_a_request_are_told_apart() -> None:
    """Requests of the same bytes share one Request, and what was written for it is remembered."""
    route = Route("test", static)
    first = Asking().exchange

    def said(certificate: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
        peer = Peer("192.0.2.1", 40000, "192.0.2.80", 443, b"https", False)
        peer.certificate = certificate
        exchange = Exchange(first.site, first.sink, peer, 3.0)
        exchange.request = first.request
        head = request_head(exchange, route, None, False, None)
        lines = [line.partition(b": ")[::2] for line in head.split(b"\r\n")[1:]]
        return [line for line in Fields(lines) if line[0].startswith(b"X-Client-Cert")]

    assert said(MIRA) == list(MIRA)
    assert said(NOBODY) == list(NOBODY)
    assert said(()) == []
    assert said(MIRA) == list(MIRA)
