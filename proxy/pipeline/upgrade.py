"""A request that wants to speak another protocol, and the tunnel that it gets. RFC 9110 §7.8."""

from typing import TYPE_CHECKING

from proxy.message import NO_LENGTH, FieldLine, Request, Response
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.finish import finish
from proxy.rules.forwarding import response_fields

if TYPE_CHECKING:
    from proxy.upstream.connection import UpstreamConnection
    from proxy.upstream.response import UpstreamResponse


def wanted_protocol(request: Request) -> bytes | None:
    """Return the value of Upgrade when the request may be forwarded with it.

    Not h2c: behind it requests would pass unseen by any route (RFC 9113 §3.1 has dropped it).
    """
    upgrade = request.fields.get(b"upgrade")
    if upgrade is None or not request.minor_version or request.body is not None:
        return None
    options = (request.fields.get(b"connection") or b"").lower().split(b",")
    if b"upgrade" not in (option.strip(b" \t") for option in options):
        return None
    protocols = [name.strip(b" \t").lower() for name in upgrade.split(b",")]
    return None if b"h2c" in protocols or not upgrade else upgrade


async def switch(
    exchange: Exchange, connection: "UpstreamConnection", answer: "UpstreamResponse"
) -> Step:
    """Pass the 101 on, and from there whatever comes."""
    fields: list[FieldLine] = response_fields(answer.fields, answer.minor_version, keep_server=True)
    upgrade = answer.fields.get(b"upgrade")
    if upgrade is not None:
        fields.append((b"Upgrade", upgrade))
    response = Response(101, fields, content_length=NO_LENGTH, reason=answer.reason)
    response.dated = b"date" in answer.fields
    transport, early = connection.detach()
    exchange.response = response
    await exchange.sink.tunnel(response, transport, early)
    return finish
