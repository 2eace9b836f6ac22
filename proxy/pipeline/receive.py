"""The step that makes of an upstream's answer the one that the client gets."""

from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.files.file_source import FileSource
from proxy.message import (
    NO_LENGTH,
    Consumer,
    FieldLine,
    Fields,
    Response,
    SameHead,
    Source,
    WireHead,
)
from proxy.pipeline.client_fields import client_fields
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.heed import heed
from proxy.pipeline.respond import respond
from proxy.pipeline.sendfile import send_file
from proxy.pipeline.spool import Spool
from proxy.rules import cache_status
from proxy.rules.forwarding import HOP_BY_HOP, end_to_end, response_fields
from proxy.rules.sendfile import FILE_FIELDS
from proxy.rules.server_timing import PRIVATE

if TYPE_CHECKING:
    from proxy.pipeline.site import Route, Site
    from proxy.upstream.response import UpstreamResponse

# What the wire protocol of another worker has written, and that of this one writes again.
_LENGTH: Final = HOP_BY_HOP | {b"content-length", PRIVATE.lower()}
_LENGTH_AND_SERVER: Final = _LENGTH | {b"server"}


def receive(exchange: Exchange) -> Step | Wait:
    """Take what an upstream has answered, or the file that it names."""
    route, answer = exchange.route, exchange.answer
    if route is None or answer is None:
        raise RuntimeError("receive without an answer")
    exchange.answer = None
    if route.sendfile and answer.fields.has_any(FILE_FIELDS):
        # What it says of its own content says nothing about that of the file.
        if exchange.question is not None and exchange.request.method != b"HEAD":
            heed(exchange, exchange.question, answer)
        return Wait(send_file(exchange, route, answer, make_response(exchange, route, answer)))
    if exchange.question is not None:
        heed(exchange, exchange.question, answer)
    exchange.response = make_response(exchange, route, answer)
    return respond


class PassedOn(NamedTuple):
    """A head as the clients of `route` get it, kept with what it was made of."""

    route: "Route"
    lines: list[FieldLine]
    passed: tuple[bytes, bool, bool]
    wire_head: WireHead
    same_head: SameHead | None
    dated: bool


def pass_on(exchange: Exchange, route: "Route", answer: "UpstreamResponse") -> PassedOn:
    """Make the head for the client, or take the one that was made of the same head before."""
    head = answer.head
    known = None if head is None else head.passed_on
    passed = (exchange.passed, exchange.waited, exchange.inside)
    if isinstance(known, PassedOn) and known.route is route and known.passed == passed:
        return known
    fields = answer.fields
    if route.inside:
        lines = end_to_end(fields, _LENGTH if exchange.site.pass_server else _LENGTH_AND_SERVER)
    else:
        lines = response_fields(fields, answer.minor_version, keep_server=exchange.site.pass_server)
    member = b""
    if exchange.passed:
        member = cache_status.forwarded(
            exchange.passed, status=answer.status, collapsed=False if exchange.waited else None
        )
    if member or route.headers:
        lines = client_fields(route, lines, member, inner=exchange.inside)
    if answer.status == 426 and b"upgrade" in fields:  # RFC 9110 §15.5.22
        lines += ((b"Connection", b"upgrade"), (b"Upgrade", fields.get(b"upgrade") or b""))
    # Only where the head says how long the content is, what is encoded depends on nothing else.
    is_kept = head is not None and head.length >= 0
    same_head = SameHead() if is_kept else None
    made = PassedOn(route, lines, passed, WireHead(), same_head, b"date" in fields)
    if head is not None and is_kept:
        head.passed_on = made
    return made


def make_response(exchange: Exchange, route: "Route", answer: "UpstreamResponse") -> Response:
    """Make of the upstream's answer the one that the client gets."""
    made = pass_on(exchange, route, answer)
    body: bytes | Source | None
    if answer.body is None or isinstance(answer.body, bytes):
        body = answer.body
        if answer.trailers is not None and answer.trailers.lines and body is not None:
            body = WithTrailers(body, answer.trailers)
    else:
        body = answer.body
        if answer.fields.get(b"x-accel-buffering") != b"no":
            body = spooled(exchange.site, route, body)
    response = Response(
        answer.status, made.lines, body, reason=answer.reason, wire_head=made.wire_head
    )
    response.dated = made.dated
    response.same_head = made.same_head
    if answer.body is None:
        length = answer.fields.get(b"content-length")
        response.content_length = int(length) if length is not None else NO_LENGTH
    return response


def spooled(site: "Site", route: "Route", body: Source) -> Source:
    """Let a body wait here for its client where the route says so; streams go straight through."""
    if body.length is None or not route.buffer_response or isinstance(body, FileSource):
        return body
    return Spool(body, site.temp_folder, site.memory_spool_bytes, route.buffer_response)


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
