"""Answers from an entry whose content is still coming. RFC 9110 §14, RFC 9111 §4."""

from time import time

from proxy.cache.entry import Entry
from proxy.cache.growing import Growing
from proxy.errors import RangeNotSatisfiableError
from proxy.message import Consumer, Fields, Response, Source
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.question import Question
from proxy.pipeline.receive import spooled
from proxy.pipeline.respond import respond
from proxy.pipeline.serve import not_modified
from proxy.rules.conditional import Outcome
from proxy.rules.partial import range_to_serve
from proxy.rules.ranges import Span, content_range, parse_range, unsatisfied_range
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
            exchange.response = not_modified(response)
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
                    Cut(growing.reader(), spans[0]),
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
        reason=response.reason,
    )
    made.dated = response.dated
    return made


class Cut:
    """The Source of one span of another one."""

    __slots__ = ("_at", "_consumer", "_source", "_span", "length")

    def __init__(self, source: Source, span: Span) -> None:
        self.length: int | None = span.stop - span.first
        self._source = source
        self._span = span
        self._at = 0
        self._consumer: Consumer | None = None

    def start(self, consumer: Consumer) -> None:
        """Push what lies in the span."""
        self._consumer = consumer
        self._source.start(self)

    def pause(self) -> None:
        """Hold the source back."""
        self._source.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._source.resume()

    def cancel(self) -> None:
        """Give up."""
        self._consumer = None
        self._source.cancel()

    def feed(self, data: bytes) -> None:
        """Pass on what lies in the span; behind its end nothing is needed any more."""
        span, at = self._span, self._at
        self._at = at + len(data)
        piece = data[max(0, span.first - at) : max(0, span.stop - at)]
        if piece and self._consumer is not None:
            self._consumer.feed(piece)
        if self._at >= span.stop and self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            self._source.cancel()
            consumer.finish(None)

    def finish(self, trailers: Fields | None) -> None:
        """The source has ended; short of the span only if it broke its word."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.finish(None)

    def abort(self, error: Exception) -> None:
        """The source broke off."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.abort(error)
