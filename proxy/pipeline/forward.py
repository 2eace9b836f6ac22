"""The step that asks an upstream: the request is written anew, and sent when there is room."""

import asyncio
import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.errors import (
    ClientGoneError,
    NoAnswerError,
    UpstreamError,
    UpstreamTimeoutError,
)
from proxy.message import FieldLine, Fields, RequestBody
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.fail import step_after
from proxy.pipeline.finish import finish
from proxy.pipeline.origin import origin_of
from proxy.pipeline.upgrade import switch, wanted_protocol
from proxy.rules.chunked import encode_chunk, last_chunk
from proxy.rules.forwarding import end_to_end, request_fields
from proxy.upstream.answer import AwaitedAnswer

if TYPE_CHECKING:
    from proxy.pipeline.site import Route
    from proxy.upstream.connection import UpstreamConnection
    from proxy.upstream.group import Group
    from proxy.upstream.response import UpstreamResponse
    from proxy.upstream.wish import Wish

# Unique over workers and restarts, and cheaper than 16 random bytes for each request.
_id_prefix: Final = os.urandom(8).hex().encode()
_id_numbers: Final = itertools.count(1)


def forward(exchange: Exchange) -> Wait | None:
    """Begin to talk to the route's upstream: in a task, or without one when nothing has to wait."""
    route = exchange.route
    if route is None or route.group is None:
        raise RuntimeError("forward without an upstream")
    exchange.upstream_name = route.group.name  # from now on a client that leaves ends this
    request = exchange.request
    if request.body is None and wanted_protocol(request) is None:
        wish = wish_of(exchange, route.group) if route.group.keyed else None
        connection = route.group.acquire_now(wish)
        if connection is not None:
            Asked(exchange, route, connection, wish).begin()
            return None
    return Wait(ask(exchange, route, route.group))


class Asked:
    """A request without content that an idle connection takes at once: no task waits for it.

    Implements the connection's `Asker`, and stands in for the task of its exchange.
    """

    __slots__ = ("began_at", "connection", "exchange", "route", "wish")

    def __init__(
        self,
        exchange: Exchange,
        route: "Route",
        connection: "UpstreamConnection",
        wish: "Wish | None",
    ) -> None:
        self.exchange = exchange
        self.route = route
        self.connection = connection
        self.wish = wish

    def begin(self) -> None:
        """Send the request."""
        exchange, route, connection = self.exchange, self.route, self.connection
        exchange.task = self
        self.began_at = exchange.sink.now()
        head = request_head(exchange, route, None, False, None)
        connection.begin(
            self, exchange.request.method, False, route.read_timeout_s, route.total_timeout_s
        )
        connection.send(head)

    def informed(self, status: int, fields: list[FieldLine]) -> None:
        """Pass an interim response on."""
        pass_interim(self.exchange, status, fields)

    def answered(self, response: "UpstreamResponse") -> bool:
        """Go on with the answer."""
        exchange = self.exchange
        exchange.task = None
        exchange.upstream_s = exchange.sink.now() - self.began_at
        if self.wish is not None and self.route.group is not None:
            response = self.route.group.marked(response, self.wish, self.connection)
        exchange.answer = response
        run(exchange, self.route.receive)
        return True

    def failed(self, error: UpstreamError | UpstreamTimeoutError) -> None:
        """Ask again when the idle connection turned out to be closed, else fail."""
        exchange, route, group = self.exchange, self.route, self.route.group
        exchange.task = None
        if isinstance(error, NoAnswerError) and group is not None:
            wish = group.again(self.wish, self.connection, error, exchange.request.method)
            if wish is not None:
                run(exchange, lambda exchange: Wait(ask(exchange, route, group, wish)))
                return
        run(exchange, step_after(exchange, error))

    def cancel(self) -> None:
        """The client has left: give the request up, if it is not answered yet."""
        exchange = self.exchange
        if exchange.task is self:
            exchange.task = None
            self.connection.give_up(self)
            run(exchange, step_after(exchange, ClientGoneError("the client left")))


async def ask(
    exchange: Exchange, route: "Route", group: "Group", wish: "Wish | None" = None
) -> Step:
    """Send the request, and await the head of the answer; `wish` is of an attempt that failed."""
    body = exchange.request.body
    if body is None:
        return await attempt(exchange, route, group, None, wish)
    try:
        if route.buffer_request:
            await body.collect()
            if exchange.sink.timing is not None:
                exchange.sink.timing.accepted_at = exchange.sink.now()
        step = await attempt(exchange, route, group, body, wish)
        if exchange.sender is not None and not exchange.sender.done():
            return await respond_early(exchange, route, exchange.sender)
        return step
    finally:
        await stop_sending(exchange)
        await body.close()


async def respond_early(exchange: Exchange, route: "Route", sender: "asyncio.Task[None]") -> Step:
    """Answer while the request is still being sent: an upstream may answer as it reads.

    The answer ends with the sending when that fails; the sending with the answer, as its connection
    does, when that is complete first.
    """
    received = route.receive(exchange)
    if isinstance(received, Wait):  # for a file
        await received.work
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
    exchange: Exchange,
    route: "Route",
    group: "Group",
    body: RequestBody | None,
    wish: "Wish | None",
) -> Step:
    """Ask once, and again where a failure may be repaired."""
    request = exchange.request
    upgrade = wanted_protocol(request)
    # Once: content that is still coming has a length as soon as its end is here.
    chunked = body is not None and (body.length is None or bool(body.trailers))
    head = request_head(exchange, route, body, chunked, upgrade)
    inform = partial(pass_interim, exchange)
    repeatable = body is None or route.buffer_request
    if wish is None and group.keyed:
        wish = wish_of(exchange, group)
    while True:
        connection = group.acquire_now(wish) or await acquired(exchange, group, wish)
        began_at = exchange.sink.now()
        answer = AwaitedAnswer(inform)
        connection.begin(
            answer,
            request.method,
            upgrade is not None,
            route.read_timeout_s,
            route.total_timeout_s,
        )
        try:
            response = await converse(exchange, connection, answer, head, chunked)
        except NoAnswerError as error:
            again = group.again(wish, connection, error, request.method, repeatable)
            if again is None:
                raise
            wish = again
        else:
            exchange.upstream_s = exchange.sink.now() - began_at
            break
    if response.upgraded:
        return await switch(exchange, connection, response)
    exchange.answer = group.marked(response, wish, connection)
    return route.receive


async def acquired(exchange: Exchange, group: "Group", wish: "Wish | None") -> "UpstreamConnection":
    """Wait for a connection, and note how long where that is told. Raises as `Group.acquire`."""
    timing = exchange.sink.timing
    if timing is None:
        return await group.acquire(wish)
    asked_at = exchange.sink.now()
    opening_s = 0.0
    try:
        connection = await group.acquire(wish)
        opening_s = 0.0 if connection.reused else connection.dialled_s
    finally:
        timing.waited(exchange.sink.now() - asked_at, opening_s)
    return connection


def wish_of(exchange: Exchange, group: "Group") -> "Wish":
    """Return what the request wants of a group that chooses by it."""
    return group.wish(
        exchange.request,
        exchange.client,
        secure=(exchange.origin or origin_of(exchange)).scheme == b"https",
        own=not exchange.inner,  # what is fetched may go to other clients
    )


async def converse(
    exchange: Exchange,
    connection: "UpstreamConnection",
    answer: AwaitedAnswer,
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
        answer.drop()
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
    if not exchange.request_id:  # else it is asked again
        exchange.request_id = given_id or b"%b%08x" % (_id_prefix, next(_id_numbers))
    path = request.path
    if route.strip_prefix:
        path = path[len(route.strip_prefix) :] or b"/"
    parts = [
        b"%b %b HTTP/1.1\r\n" % (request.method, path)
        if request.query is None
        else b"%b %b?%b HTTP/1.1\r\n" % (request.method, path, request.query),
        lasting_lines(exchange, route),
        b"X-Request-ID: %b\r\n" % exchange.request_id,
    ]
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


class Written(NamedTuple):
    """Field lines as they go upstream, kept with the fields that they were made of."""

    key: tuple[object, ...]
    lines: bytes


def lasting_lines(exchange: Exchange, route: "Route") -> bytes:
    """Write the field lines that are the same whenever these fields come from this peer."""
    request, peer = exchange.request, exchange.peer
    counted_down = request.method == b"OPTIONS"
    known = request.fields.written
    # Fields that requests share (see http1_head) mostly come from one client.
    key = (
        route,
        peer.address,
        peer.local_port,
        peer.scheme,
        peer.certificate,
        peer.trusted,
        request.authority,
        request.minor_version,
        counted_down,
    )
    if type(known) is Written and known.key == key:
        return known.lines
    if route.inside:
        lines = request.fields.lines  # the other worker asks as the client does
    else:
        lines = request_fields(
            request.fields,
            exchange.origin or origin_of(exchange),
            route.strip_prefix,
            request.minor_version,
            authority=request.authority,
            peer_trusted=peer.trusted,
            identity=peer.certificate,
        )
    if counted_down:
        lines = one_hop_less(lines)
    if route.private_lines:
        lines = [*lines, *route.private_lines]
    written = b"".join([b"%b: %b\r\n" % line for line in lines])
    if not peer.trusted:
        request.fields.written = Written(key, written)
    return written


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
