"""First step: what no route gets to see."""

from typing import Final

from proxy.errors import ExpectationError, MethodNotAllowedError
from proxy.message import Response
from proxy.pipeline.census import NAME as CENSUS
from proxy.pipeline.census import census
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.origin import origin_of
from proxy.pipeline.purge import METHOD as PURGE
from proxy.pipeline.purge import purge
from proxy.pipeline.redirect import https_redirect
from proxy.pipeline.respond import respond
from proxy.pipeline.route import route
from proxy.pipeline.sibling import arrive

# What a server that passes any method on can name. RFC 9110 §9.3.7.
ALLOW: Final = ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)


def admit(exchange: Exchange) -> Step:
    """Learn who asks; refuse TRACE and unknown expectations; answer `OPTIONS *`, PURGE and http."""
    request = exchange.request
    if exchange.peer.entrance.inside:
        return admit_inside(exchange)
    if exchange.peer.trusted:
        exchange.origin = found = origin_of(exchange)
        exchange.client = found.client
    if request.method == b"TRACE":  # it would show a client's credentials to its scripts
        raise MethodNotAllowedError("TRACE is not served", ALLOW)
    if request.method == PURGE and exchange.site.purge_from is not None:
        return purge
    if request.body is not None:
        expect = request.fields.get(b"expect")
        if expect is not None and expect.lower() != b"100-continue" and request.minor_version:
            raise ExpectationError(f"unknown expectation {expect[:64]!r}")
    if request.method == b"OPTIONS" and stops_here(
        request.path, request.fields.get(b"max-forwards")
    ):
        exchange.response = Response(204, list(ALLOW))
        return respond
    if exchange.peer.entrance.https_port:
        exchange.response = https_redirect(exchange)
        if exchange.response is not None:
            return respond
    return route


def admit_inside(exchange: Exchange) -> Step:
    """Let in another worker, or a tool."""
    if CENSUS in exchange.request.fields:
        return census
    arrive(exchange)
    return route


def stops_here(path: bytes, max_forwards: bytes | None) -> bool:
    """Whether an OPTIONS request is for this server itself. RFC 9110 §7.6.2, §9.3.7."""
    if path == b"*":
        return True
    return max_forwards is not None and max_forwards.isdigit() and not max_forwards.strip(b"0")
