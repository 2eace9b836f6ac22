"""Answers from an entry whose content is still coming. RFC 9110 §14, RFC 9111 §4."""

from time import time

from proxy.cache.entry import Entry
from proxy.cache.growing import Growing
from proxy.errors import RangeNotSatisfiableError
from proxy.message import Response, Source
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.question import Question
from proxy.pipeline.receive import spooled
from proxy.pipeline.respond import respond
from proxy.pipeline.serve import not_modified
from proxy.rules.conditional import Outcome
from proxy.rules.partial import range_to_serve
from proxy.rules.ranges import content_range, parse_range, unsatisfied_range
from proxy.rules.validation import evaluate_stored


def serve_growing(
    exchange: Exchange, question: Question, entry: Entry, growing: Growing, response: Response
) -> Step:
    """Answer with what has come, and the rest as it comes.

    `response` is the whole answer without its body. One range at most is cut out of it; of several
    the client gets the whole, as RFC 9110 §14.2 allows.
    """
    request = exchange.request
    if not question.plain:
        now = int(time())
        if evaluate_stored(request.fields, entry, now) is Outcome.NOT_MODIFIED:
            exchange.response = not_modified(exchange, response)
            return respond
        length = growing.length
        wanted = None if length is None else range_to_serve(request, entry, now)
        spans = None if wanted is None or length is None else parse_range(wanted, length)
        if spans is not None and length is not None:
            if not spans:
                raise RangeNotSatisfiableError(
                    f"no such ranges, or too many, of {length} bytes",
                    ((b"Content-Range", unsatisfied_range(length)),),
                )
            if len(spans) == 1:
                exchange.response = streamed(
                    exchange,
                    response,
                    growing.reader(spans[0]),
                    206,
                    [(b"Content-Range", content_range(spans[0], length))],
                )
                return respond
    exchange.response = streamed(exchange, response, growing.reader(), response.status, [])
    return respond


def streamed(
    exchange: Exchange,
    response: Response,
    body: Source,
    status: int,
    more: list[tuple[bytes, bytes]],
) -> Response:
    """Return the answer with its body, behind which a slow client may wait."""
    route = exchange.route
    made = Response(
        status,
        [*response.fields, *more],
        body if route is None else spooled(exchange.site, route, body),
        reason=response.reason if status == response.status else b"",
    )
    made.dated = response.dated
    return made
