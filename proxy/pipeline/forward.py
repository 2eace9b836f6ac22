"""The step that asks an upstream: the request written anew, the answer passed on as it comes."""

import asyncio
import itertools
import os
from functools import partial
from typing import TYPE_CHECKING

from proxy.errors import StaleConnectionError
from proxy.message import NO_LENGTH, Consumer, FieldLine, Fields, RequestBody, Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.finish import finish
from proxy.pipeline.origin import origin_of
from proxy.pipeline.respond import respond
from proxy.pipeline.spool import Spool
from proxy.pipeline.upgrade import switch, wanted_protocol
from proxy.rules.chunked import encode_chunk, last_chunk
from proxy.rules.forwarding import end_to_end, request_fields, response_fields
from proxy.rules.retrying import may_retry

if TYPE_CHECKING:
    from proxy.pipeline.site import Route
    from proxy.upstream.connection import UpstreamConnection
    from proxy.upstream.group import Group
    from proxy.upstream.response import UpstreamResponse

# Unique over workers and restarts, and cheaper than 16 random bytes for each request.
_id_prefix = os.urandom(8).hex().encode()
_id_numbers = itertools.count(1)


def forward(exchange: Exchange) -> Wait:
    """Begin to talk to the route's upstream."""
    route = exchange.route
    if route is None or route.group is None:
        raise RuntimeError("forward without an upstream")
    exchange.upstream_name = route.group.name  # from now on a client that leaves ends this
    return Wait(ask(exchange, route, route.group))


async def ask(exchange: Exchange, route: "Route", group: "Group") -> Step:
    """Send the request, await the head of the answer, and make a Response of it."""
    body = exchange.request.body
    if body is None:
        return await attempt(exchange, route, group, None)
    try:
        if route.buffer_request:
            await body.collect()
        step = await attempt(exchange, route, group, body)
        if exchange.sender is not None and not exchange.sender.done():
            return await respond_early(exchange, exchange.sender)
        return step
    finally:
        await stop_sending(exchange)
        await body.close()


async def respond_early(exchange: Exchange, sender: "asyncio.Task[None]") -> Step:
    """Answer while the request is still being sent: an upstream may answer as it reads.

    The answer ends with the sending when that fails; the sending with the answer, as its connection
    does, when that is complete first.
    """
    response = exchange.response
    if response is None or exchange.sink.send(response):
        return finish
    sent = asyncio.ensure_future(exchange.sink.sent())
    try:
        await asyncio.wait((sender, sent), return_when=asyncio.FIRST_COMPLETED)
        if sender.done() and (error := sender.exception()) is not None and not sent.done():
            exchange.sink.closing = True
            response.body.cancel()  # type: ignore[union-attr]  # it streams
            raise error
        await sent
    finally:
        sent.cancel()
    return finish


async def stop_sending(exchange: Exchange) -> None:
    """End what sends the request's content, so that nobody reads it any more."""
    sender, exchange.sender = exchange.sender, None
    if sender is not None:
        sender.cancel()
        await asyncio.wait((sender,))
        if not sender.cancelled():
            sender.exception()


async def attempt(
    exchange: Exchange, route: "Route", group: "Group", body: RequestBody | None
) -> Step:
    """Ask once, and again as long as idle connections turn out to be closed."""
    request = exchange.request
    upgrade = wanted_protocol(request)
    # Once: content that is still coming has a length as soon as its end is here.
    chunked = body is not None and (body.length is None or bool(body.trailers))
    head = request_head(exchange, route, body, chunked, upgrade)
    inform = partial(pass_interim, exchange)
    repeatable = body is None or route.buffer_request
    while True:
        connection = group.acquire_now() or await group.acquire()
        reused = connection.reused
        began_at = exchange.sink.now()
        answer = connection.begin(request.method, inform, upgrade is not None, route.read_timeout_s)
        try:
            response = await converse(exchange, connection, answer, head, chunked)
        except StaleConnectionError:
            if not may_retry(request.method, reused, False, repeatable):
                raise
        else:
            exchange.upstream_s = exchange.sink.now() - began_at
            break
    if response.upgraded:
        return await switch(exchange, connection, response)
    exchange.response = make_response(exchange, route, response)
    return respond


async def converse(
    exchange: Exchange,
    connection: "UpstreamConnection",
    answer: "asyncio.Future[UpstreamResponse]",
    head: bytes,
    chunked: bool,
) -> "UpstreamResponse":
    """Send the request and await the answer's head; whatever ends this early ends both.

    Content that is not here as a whole goes on being sent behind the head of the answer.
    """
    body = exchange.request.body
    try:
        whole = None if body is None or chunked else body.in_memory()
        if body is None or whole is not None:
            connection.send(head + whole if whole else head)
            return await answer
        sending = send_content(connection, head, body, chunked)
        exchange.sender = sender = asyncio.get_running_loop().create_task(sending)
        await asyncio.wait((sender, answer), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            sender.result()
        return await answer
    except BaseException:
        await stop_sending(exchange)
        connection.give_up(answer)
        raise


async def send_content(
    connection: "UpstreamConnection", head: bytes, body: RequestBody, chunked: bool
) -> None:
    """Write head and content, never more than the upstream has room for. RFC 9112 §6, §7."""
    connection.send(head, more=True)
    async for data in body:
        connection.send(encode_chunk(data) if chunked else data, more=True)
        if not await connection.writable():
            return
    connection.send(last_chunk(body.trailers) if chunked else b"")


def request_head(
    exchange: Exchange,
    route: "Route",
    body: RequestBody | None,
    chunked: bool,
    upgrade: bytes | None,
) -> bytes:
    """Write the head for the upstream from what was understood, never from what was received."""
    request = exchange.request
    fields = request.fields
    peer = exchange.peer
    given_id = fields.get(b"x-request-id") if peer.trusted else None
    exchange.request_id = given_id or b"%b%08x" % (_id_prefix, next(_id_numbers))
    # A request that is shared by exchanges (see http1_head) mostly comes from one client.
    key = (route, peer.address, peer.local_port, peer.scheme)
    if request.upstream_key != key or peer.trusted or body is not None:
        request.upstream_head = lasting_head(exchange, route)
        request.upstream_key = key
    parts = [request.upstream_head, b"X-Request-ID: %b\r\n" % exchange.request_id]
    if upgrade is not None:
        parts.append(b"Connection: upgrade\r\nUpgrade: %b\r\n" % upgrade)
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif body is not None:
        parts.append(b"Content-Length: %d\r\n" % (body.length or 0))
    elif b"content-length" in fields:
        parts.append(b"Content-Length: 0\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def lasting_head(exchange: Exchange, route: "Route") -> bytes:
    """Write what is the same whenever this request comes from this peer: all but its id."""
    request = exchange.request
    peer = exchange.peer
    path = request.path
    prefix = route.strip_prefix
    if prefix:
        path = path[len(prefix) :] or b"/"
    target = path if request.query is None else b"%b?%b" % (path, request.query)
    lines = request_fields(
        request.fields,
        exchange.origin or origin_of(exchange),
        prefix,
        request.minor_version,
        authority=request.authority,
        peer_trusted=peer.trusted,
    )
    if request.method == b"OPTIONS":
        lines = one_hop_less(lines)
    return b"".join(
        [
            b"%b %b HTTP/1.1\r\n" % (request.method, target),
            *[b"%b: %b\r\n" % line for line in lines],
        ]
    )


def one_hop_less(lines: list[FieldLine]) -> list[FieldLine]:
    """Count down Max-Forwards, which is not zero here (`admit`). RFC 9110 §7.6.2."""
    return [
        (name, b"%d" % (int(value) - 1))
        if name.lower() == b"max-forwards" and value.isdigit() and len(value) < 10
        else (name, value)
        for name, value in lines
    ]


def pass_interim(exchange: Exchange, status: int, lines: list[FieldLine]) -> None:
    """Pass a 1xx on, but for 100, which is between us and the upstream. RFC 9110 §15.2."""
    if status != 100:
        exchange.sink.inform(status, end_to_end(Fields(lines)))


def make_response(exchange: Exchange, route: "Route", answer: "UpstreamResponse") -> Response:
    """Make of the upstream's answer the one that the client gets."""
    fields = answer.fields
    lines = response_fields(fields, answer.minor_version, keep_server=exchange.site.pass_server)
    if route.headers:
        names = route.header_names
        lines = [line for line in lines if line[0].lower() not in names]
        lines += route.headers
    body: bytes | Spool | WithTrailers | None
    if answer.body is None or isinstance(answer.body, bytes):
        body = answer.body
        if answer.trailers is not None and answer.trailers.lines and body is not None:
            body = WithTrailers(body, answer.trailers)
    elif answer.body.length is not None and route.buffer_response:
        site = exchange.site
        body = Spool(answer.body, site.temp_folder, site.memory_spool_bytes, route.buffer_response)
    else:
        body = answer.body  # type: ignore[assignment]
    if answer.status == 426 and b"upgrade" in fields:  # RFC 9110 §15.5.22
        lines += ((b"Connection", b"upgrade"), (b"Upgrade", fields.get(b"upgrade") or b""))
    response = Response(answer.status, lines, body, reason=answer.reason)
    response.dated = b"date" in fields
    if answer.body is None:
        length = fields.get(b"content-length")
        response.content_length = int(length) if length is not None else NO_LENGTH
    return response


class WithTrailers:
    """A Source of content that is here already and has trailer fields. RFC 9110 §6.5."""

    __slots__ = ("_data", "_trailers", "length")

    def __init__(self, data: bytes, trailers: Fields) -> None:
        self._data = data
        self._trailers = trailers
        self.length: int | None = None

    def start(self, consumer: Consumer) -> None:
        """Push all of it."""
        if self._data:
            consumer.feed(self._data)
        consumer.finish(self._trailers)

    def pause(self) -> None:
        """Nothing is held back: it fits into memory."""

    def resume(self) -> None:
        """See `pause`."""

    def cancel(self) -> None:
        """Nothing to release."""
