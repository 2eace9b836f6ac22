"""The answer to a request over http on a listener that wants https."""

import re

from proxy.errors import BadRequestError
from proxy.message import Response
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.origin import origin_of

_PORT = re.compile(rb":[0-9]*$")


def https_redirect(exchange: Exchange) -> Response | None:
    """Return where to go instead, or None for what came over https to a trusted proxy.

    308 and not 301: a POST stays one. RFC 9110 §15.4.9.
    """
    origin = exchange.origin or origin_of(exchange)
    if origin.scheme == b"https":
        return None
    if not origin.host:
        raise BadRequestError("no Host: there is no address to redirect to")
    request = exchange.request
    port = exchange.peer.entrance.https_port
    authority = _PORT.sub(b"", origin.host) + (b"" if port == 443 else b":%d" % port)
    path = b"" if request.path == b"*" else request.path
    query = b"" if request.query is None else b"?" + request.query
    return Response(308, [(b"Location", b"https://%b%b%b" % (authority, path, query))], b"")
