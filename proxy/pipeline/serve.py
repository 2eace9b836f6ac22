"""Answers from an entry: whole, a part, or a 304. RFC 9111 §4, §4.3.2, RFC 9110 §14."""

import asyncio
import secrets
from time import time
from typing import Final

from proxy.cache.disk_reader import DiskSource
from proxy.cache.entry import Entry
from proxy.errors import RangeNotSatisfiableError, StoredContentError
from proxy.message import FieldLine, Response, Source, SteadyHead, WireHead
from proxy.pipeline.client_fields import steady_fields
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.forward import forward
from proxy.pipeline.question import Question
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route
from proxy.rules import cache_status
from proxy.rules.conditional import Outcome
from proxy.rules.partial import range_to_serve
from proxy.rules.ranges import (
    Span,
    content_range,
    multipart_heads,
    parse_range,
    unsatisfied_range,
)
from proxy.rules.validation import evaluate_stored

# What a 304 repeats of the answer that the client holds. RFC 9110 §15.4.5.
OF_A_304: Final = frozenset(
    (
        b"age",
        b"cache-control",
        b"cache-status",
        b"content-location",
        b"date",
        b"etag",
        b"expires",
        b"last-modified",
        b"set-cookie",
        b"vary",
        b"via",
    )
)


def serve_hit(exchange: Exchange, question: Question, entry: Entry, now: float) -> Step | Wait:
    """Answer with a fresh entry; the answer of one second is made once."""
    if exchange.inside:
        return serve(exchange, question, entry, now, cache_status.hit(entry.fresh_until - now))
    exchange.site.cache_figures.hits += 1
    age = int(now - entry.born_at)
    shown = shown_by(exchange, entry)
    response = entry.response
    if response is None or entry.response_second != age:
        member = cache_status.hit(entry.fresh_until - entry.born_at - age)
        response = entry.response = as_shown(entry, shown, age, member)
        entry.response_second = age
        entry.not_modified = None
    return serve_as(exchange, question, entry, response)


def serve(
    exchange: Exchange,
    question: Question,
    entry: Entry,
    now: float,
    member: bytes,
    more: tuple[FieldLine, ...] = (),
) -> Step | Wait:
    """Answer with an entry, say in Cache-Status what `member` says, and put `more` to it."""
    age = int(max(0.0, now - entry.born_at))
    response = whole(exchange, entry, age, member)
    if more:
        response.fields = [*response.fields, *more]
    return serve_as(exchange, question, entry, response)


def serve_as(
    exchange: Exchange, question: Question, entry: Entry, response: Response
) -> Step | Wait:
    """Answer with an entry, of which `response` is the whole, for this client or for all."""
    try:
        if not question.plain:
            made = part_of(exchange, entry, response)
        else:
            made = response if response.body is not None else with_body(entry, response)
    except StoredContentError:
        return look_once_more(exchange, entry)
    exchange.response = made
    if type(made.body) is DiskSource and not made.body.seen:
        return Wait(look_first(exchange, entry, made.body))
    return respond


async def look_first(exchange: Exchange, entry: Entry, source: DiskSource) -> Step:
    """See that the content is there before its head goes out: no answer is to break off for it."""
    try:
        await source.look()
    except StoredContentError:
        return lambda exchange: look_once_more(exchange, entry)
    except asyncio.CancelledError:
        source.cancel()
        raise
    return respond


def look_once_more(exchange: Exchange, entry: Entry) -> Step:
    """Give up an entry whose content is not there any more, and look for another one.

    The disk has lost it or made room; or another worker, which stored the same answer, has put its
    own file in the place of this one.
    """
    if exchange.site.cache is not None:
        exchange.site.cache.memory.remove(entry)
    is_first = not exchange.passed
    exchange.passed = cache_status.MISS
    return exchange.route.step if is_first and exchange.route is not None else forward


class Shown:
    """What the clients of a route see of an entry at any time.

    `others` is what other caches have to say in Cache-Status, `not_modified` what a 304 begins
    with, once there was one.
    """

    __slots__ = ("not_modified", "others", "route", "size_bytes", "steady")

    def __init__(
        self, route: Route | None, size_bytes: int, lines: list[FieldLine], others: bytes
    ) -> None:
        self.route = route
        self.size_bytes = size_bytes
        self.others = others
        self.steady = SteadyHead(lines)
        self.not_modified: SteadyHead | None = None


def shown_by(exchange: Exchange, entry: Entry) -> Shown:
    """Return what this client sees of an entry, which is kept for the next of its route's."""
    route = exchange.route
    known = entry.shown
    if (
        isinstance(known, Shown)
        and known.route is route
        and known.size_bytes == entry.size_bytes
        and not exchange.inside
    ):
        return known
    lines, others = entry.fields.lines, b""
    if route is not None:
        lines, others = steady_fields(route, lines, is_stored=True, inner=exchange.inside)
    made = Shown(route, entry.size_bytes, lines, others)
    if not exchange.inside:
        entry.shown = made
        entry.response = None
    return made


def whole(exchange: Exchange, entry: Entry, age: int, member: bytes) -> Response:
    """Make the answer; without its content when that is not in memory (see `with_body`)."""
    return as_shown(entry, shown_by(exchange, entry), age, member)


def as_shown(entry: Entry, shown: Shown, age: int, member: bytes) -> Response:
    """Make the answer of an entry at that age."""
    lines = shown.steady.lines
    if shown.route is not None:
        said = cache_status.appended(shown.others, member)
        lines = [*lines, (b"Age", b"%d" % age), (b"Cache-Status", said)]
    in_memory = isinstance(entry.body, bytes)
    response = Response(
        entry.status,
        lines,
        entry.body if isinstance(entry.body, bytes) else None,
        reason=entry.reason,
        content_length=None if in_memory else entry.size_bytes,
        wire_head=WireHead(shown.steady),
    )
    response.dated = True
    return response


def with_body(entry: Entry, response: Response) -> Response:
    """Return the answer for one client, who reads the content from where it is stored."""
    body = entry.body
    source = None if isinstance(body, bytes) else body.source()
    full = Response(
        response.status,
        response.fields,
        source,
        reason=response.reason,
        content_length=response.content_length,
        wire_head=response.wire_head,
    )
    full.dated = response.dated
    return full


def part_of(exchange: Exchange, entry: Entry, response: Response) -> Response:
    """Return the answer to a HEAD, a conditional request, or one for ranges.

    Raises RangeNotSatisfiableError.
    """
    request = exchange.request
    now = int(time())
    if evaluate_stored(request.fields, entry, now) is Outcome.NOT_MODIFIED:
        return same_as_held(exchange, entry, response)
    if request.method == b"HEAD":
        return response
    wanted = range_to_serve(request, entry, now)
    spans = None if wanted is None else parse_range(wanted, entry.size_bytes)
    if spans is None:
        return response if response.body is not None else with_body(entry, response)
    if not spans:
        raise RangeNotSatisfiableError(
            f"no such ranges, or too many, of {entry.size_bytes} bytes",
            ((b"Content-Range", unsatisfied_range(entry.size_bytes)),),
        )
    return part(entry, response, spans)


def same_as_held(exchange: Exchange, entry: Entry, response: Response) -> Response:
    """Return the 304 to `response`; that of one second is made once, as the answer itself is."""
    shown = entry.shown
    if response is not entry.response or not isinstance(shown, Shown):
        return not_modified(exchange, response)
    if entry.not_modified is None:
        steady = shown.not_modified
        if steady is None:
            steady = shown.not_modified = SteadyHead(of_a_304(shown.steady.lines))
        lines = [*steady.lines, *response.fields[len(shown.steady.lines) :]]
        entry.not_modified = made = Response(304, lines, wire_head=WireHead(steady))
        made.dated = response.dated
    return entry.not_modified


def not_modified(exchange: Exchange, response: Response) -> Response:
    """Make a 304 of the answer that the client holds already; another worker gets every field."""
    lines = response.fields if exchange.inside else of_a_304(response.fields)
    made = Response(304, lines)
    made.dated = response.dated
    return made


def of_a_304(lines: list[FieldLine]) -> list[FieldLine]:
    """Return what a 304 repeats of the answer's fields."""
    return [line for line in lines if line[0].lower() in OF_A_304]


def part(entry: Entry, response: Response, spans: list[Span]) -> Response:
    """Make a 206 of one or several ranges. RFC 9110 §15.3.7."""
    size = entry.size_bytes
    lines = list(response.fields)
    pieces: list[bytes | Span] = list(spans)
    if len(spans) == 1:
        lines.append((b"Content-Range", content_range(spans[0], size)))
    else:
        boundary = secrets.token_hex(12).encode()
        kind = entry.fields.get(b"content-type") or b"application/octet-stream"
        heads = multipart_heads(spans, size, kind, boundary)
        pieces = [heads[0]]
        for span, head in zip(spans, heads[1:], strict=True):
            pieces += [span, head]
        lines = [line for line in lines if line[0].lower() != b"content-type"]
        lines.append((b"Content-Type", b"multipart/byteranges; boundary=" + boundary))
    made = Response(206, lines, cut(entry.body, pieces))
    made.dated = response.dated
    return made


def cut(body: object, pieces: list[bytes | Span]) -> bytes | Source:
    """Take `pieces` of a content in memory; leave it to the store to read them otherwise."""
    if isinstance(body, bytes):
        return b"".join(
            piece if isinstance(piece, bytes) else body[piece.first : piece.stop]
            for piece in pieces
        )
    source: Source = body.source(pieces)  # type: ignore[attr-defined]
    return source
