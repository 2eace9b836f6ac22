"""One HTTP/1.1 connection to an upstream server: writes requests, reads their responses.

                  begin             final head             end of the body
    IDLE ─────────────────▶ HEAD ─────────────────▶ BODY ─────────────────▶ IDLE, or CLOSED
     ▲                       │ 1xx: stays            │
     │                       │ no content yet: stays │
     └── small response ─────┤                       └── broken off ──────▶ CLOSED
                             └── 101 ─▶ TUNNEL ── detach ─▶ CLOSED (for us)

Where a response ends is decided by `rules.framing` alone. Whatever makes that doubtful (bytes
behind a response or before a request, an answer to a request that was not sent completely) costs
the connection, because the next response on it could belong to somebody else.

A head whose content has a length waits a moment for the first byte of that: a server that dies
between the two has not answered, and somebody else still can. Streams do not wait.

Nothing else here sets a timer: `deadline_at` is compared by the sweep of the pool.

A total time, where there is one, runs from the end of the request to the end of its answer, but not
while the consumer holds it back, nor over a stream of events or a tunnel once it has begun.
"""

import asyncio
from math import inf
from typing import Final, Protocol, cast

from proxy.errors import (
    HttpError,
    NoAnswerError,
    StaleConnectionError,
    UpstreamError,
    UpstreamTimeoutError,
)
from proxy.message import FieldLine, Fields
from proxy.rules.health import Health
from proxy.rules.sendfile import FILE_FIELDS
from proxy.upstream.options import GroupOptions
from proxy.upstream.reading import BodyReader, PartialHead, last_reads, persists
from proxy.upstream.response import ResponseBody, UpstreamResponse
from proxy.upstream.response_head import ReadHead, read_head

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
TUNNEL: Final = 3
CLOSED: Final = 4

# An application sends one or two (100, 103); what sends a hundred does not mean to answer.
MAX_INTERIM_RESPONSES: Final = 100
# What a process that dies behind its head has died in; a client hardly notices.
WITHHOLD_S: Final = 0.1
BODILESS: Final = frozenset((204, 304))


class Asker(Protocol):
    """Who has asked; is called from the event loop, as soon as there is something to say."""

    def informed(self, status: int, fields: list[FieldLine]) -> None:
        """Take an interim response other than 101."""

    def answered(self, response: UpstreamResponse) -> bool:
        """Take the final response; False when nobody wants it any more.

        The connection may serve somebody else already.
        """

    def failed(self, error: UpstreamError | UpstreamTimeoutError) -> None:
        """Learn that there will be no final response."""


class Owner(Protocol):
    """The pool of a connection; a suspect `health` wants to know of the next answer."""

    @property
    def health(self) -> Health:
        """What is known of the server."""

    def answered(self) -> None:
        """Learn that a suspect server has answered."""

    def failed(self, error: UpstreamError | UpstreamTimeoutError) -> None:
        """Learn that a request got no answer, or no whole one."""

    def released(self, connection: "UpstreamConnection") -> None:
        """Take an idle connection, which may serve another request."""

    def detached(self, transport: asyncio.BaseTransport) -> None:
        """Learn that a connection, which is dropped next, has become a tunnel."""

    def dropped(self, connection: "UpstreamConnection") -> None:
        """Forget a connection that is closed, or somebody else's."""


class UpstreamConnection:
    """Serves one request at a time; goes back to its pool, or closes, by itself.

    A request is `begin`, one or more `send`, and waiting to be `answered`. The connection is the
    asker's until the response and the request are both complete, and not a moment longer: it may
    serve somebody else when the asker wakes up. So an exchange is given up with the asker that
    `begin` was given (`give_up`), or through its body (`cancel`).

    `reused` says that it had waited idle before this request, `dialled_s` how long it took to open;
    `deadline_at` is when `expire` is due, on the loop's clock.
    """

    __slots__ = (
        "_asker",
        "_body",
        "_drained",
        "_early",
        "_held_back_at",
        "_interims",
        "_loop",
        "_lost",
        "_method",
        "_options",
        "_owner",
        "_partial_head",
        "_persistent",
        "_read_timeout_s",
        "_reader",
        "_reading_paused",
        "_received",
        "_request_complete",
        "_state",
        "_total_timeout_s",
        "_transport",
        "_unsent",
        "_until_at",
        "_upgrade",
        "_withheld",
        "_withholding",
        "_write_paused",
        "deadline_at",
        "dialled_s",
        "name",
        "reused",
    )

    _transport: asyncio.Transport

    def __init__(
        self, name: str, owner: Owner, options: GroupOptions, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.name = name
        self.reused = False
        self.dialled_s = 0.0
        self.deadline_at = inf
        self._body: ResponseBody | None = None
        self._owner = owner
        self._options = options
        self._loop = loop
        self._state = IDLE
        self._asker: Asker | None = None
        self._method = b""
        self._upgrade = False
        self._read_timeout_s = options.read_timeout_s
        self._total_timeout_s = options.total_timeout_s
        self._until_at = inf
        self._held_back_at = 0.0
        self._lost = False
        self._request_complete = False
        self._received = False
        self._persistent = False
        self._interims = 0
        self._partial_head = PartialHead(options.response_header_bytes)
        self._reader: BodyReader | None = None
        self._early = b""
        self._withheld: ReadHead | None = None
        self._withholding: asyncio.TimerHandle | None = None
        self._reading_paused = False
        self._write_paused = False
        self._unsent = 0
        self._drained: asyncio.Future[None] | None = None

    # ── The request ──────────────────────────────────────────────────────────────────────────

    @property
    def closed(self) -> bool:
        """Whether it will never serve a request again."""
        return self._state == CLOSED

    @property
    def owner(self) -> Owner:
        """The pool that it came from."""
        return self._owner

    def begin(
        self,
        asker: Asker,
        method: bytes,
        upgrade: bool = False,
        read_timeout_s: float | None = None,
        total_timeout_s: float | None = None,
    ) -> None:
        """Begin a request of `asker`, which is told of its answer.

        `upgrade` says that the request asks for it, so that 101 is a valid answer. `read_timeout_s`
        and `total_timeout_s` are for this request, the group's when None. The asker's error is an
        UpstreamError, StaleConnectionError or UpstreamTimeoutError.
        """
        if self._state == CLOSED:
            self._received = False
            asker.failed(self._broken_off(None))
            return
        self._state = HEAD
        self._asker = asker
        self._method = method
        self._upgrade = upgrade
        self._read_timeout_s = read_timeout_s or self._options.read_timeout_s
        self._total_timeout_s = total_timeout_s or self._options.total_timeout_s
        self._until_at = inf
        self._request_complete = False
        self._received = False
        self._withheld = None
        self._interims = 0

    def send(self, data: bytes, more: bool = False) -> None:
        """Write `data`; without `more` it is the end of the request.

        Never waits and never fails: what cannot be sent shows in the response.
        """
        if self._state == CLOSED:
            return
        if data:
            self._transport.write(data)
        if not more:
            self._request_complete = True
            if self._total_timeout_s:
                self._until_at = self._loop.time() + self._total_timeout_s
            self._set_deadline()

    async def writable(self) -> bool:
        """Wait until more of the request may be sent; False when nobody wants it any more."""
        if self._write_paused and self._state != CLOSED:
            self._drained = self._loop.create_future()
            await self._drained
        return self._state != CLOSED

    def give_up(self, asker: Asker) -> None:
        """Close the connection if it is still the asker's."""
        if self._asker is asker:
            self.close()

    def release(self) -> None:
        """Go back to the pool unused."""
        if self._state == IDLE:
            self._become_idle()

    def close(self) -> None:
        """Close at once and lose what is under way; nobody is told but the pool."""
        if self._state == CLOSED:
            return
        self._state = CLOSED
        self._transport.abort()
        self._let_go()

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport of an upgraded connection away, reading paused. RFC 9110 §7.8.

        Returns it with the bytes that came behind the head. The caller sets its own protocol at
        once; the connection no longer counts in the pool. Raises UpstreamError when it is lost.
        """
        if self._state != TUNNEL:
            raise UpstreamError(f"{self.name} closed the connection behind its 101")
        self._state = CLOSED
        early, self._early = self._early, b""
        self._owner.detached(self._transport)
        self._let_go()
        return self._transport, early

    # ── Deadlines ────────────────────────────────────────────────────────────────────────────

    def expire(self, now: float) -> None:
        """`deadline_at` has passed: give up what waits, unless it moved since."""
        if self._state == IDLE:
            self.close()
        elif now >= self._until_at:
            self._fail(
                UpstreamTimeoutError(
                    f"{self.name} was not done after {self._total_timeout_s:g} s; raise"
                    " total_timeout if it may take that long"
                )
            )
        elif self._write_paused:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent = unsent
                self.deadline_at = now + self._options.send_timeout_s
                return
            self._fail(
                UpstreamTimeoutError(
                    f"{self.name} took nothing of the request for {self._options.send_timeout_s:g}"
                    " s; raise send_timeout if it is that slow"
                )
            )
        else:
            self._fail(
                UpstreamTimeoutError(
                    f"{self.name} sent nothing for {self._read_timeout_s:g} s; raise"
                    " read_timeout if it is that slow"
                )
            )

    def _set_deadline(self) -> None:
        """Count from now: for the upstream to take, or to send, while it is its turn."""
        if self._reading_paused:
            self.deadline_at = inf  # it is the consumer's turn, which has a deadline of its own
        elif self._write_paused:
            self.deadline_at = self._loop.time() + self._options.send_timeout_s
        elif self._request_complete or self._state == BODY:
            self.deadline_at = self._loop.time() + self._read_timeout_s
        else:
            self.deadline_at = inf
        if self._until_at < self.deadline_at and not self._reading_paused:
            self.deadline_at = self._until_at

    # ── The response ─────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """Take bytes from the upstream."""
        state = self._state
        if state == HEAD:
            self._received = True
            self._take_head(data)
        elif state == BODY:
            self._set_deadline()
            self._take_body(data)
        elif state == TUNNEL:
            self._early += data
        else:
            self.close()  # an answer that nobody asked for

    def _take_head(self, data: bytes) -> None:
        """Take the next bytes of one or more heads: interim ones, then the final one."""
        withheld = self._withheld
        if withheld is not None:
            self._withhold_no_more()
            self._answer_with(withheld, data)
            return
        while data and self._state == HEAD:
            try:
                split = self._partial_head.split(data)
                if split is None:
                    self._set_deadline()
                    return
                head, data = split
                parsed = read_head(head, self._method)
            except HttpError as error:
                self._fail(UpstreamError(f"{self.name} sent a bad response: {error}"))
                return
            if parsed.status >= 200:
                self._answer_with(parsed, data)
                return
            if parsed.status == 101:
                self._switch(parsed, data)
                return
            self._inform(parsed)

    def _inform(self, parsed: ReadHead) -> None:
        self._interims += 1
        if self._interims > MAX_INTERIM_RESPONSES:
            self._fail(
                UpstreamError(f"{self.name} sent {self._interims} interim responses to one request")
            )
            return
        self._set_deadline()
        cast("Asker", self._asker).informed(parsed.status, parsed.fields.lines)

    def _switch(self, parsed: ReadHead, early: bytes) -> None:
        """Stop reading HTTP: the upstream speaks another protocol from here. RFC 9110 §15.2.2."""
        if not self._upgrade:
            self._fail(UpstreamError(f"{self.name} switched protocols, and nobody had asked"))
            return
        self._state = TUNNEL
        self._early = early
        self.deadline_at = inf
        self._transport.pause_reading()
        self._resolve(
            UpstreamResponse(
                parsed.status, parsed.reason, parsed.fields, None, parsed.minor_version, None, True
            )
        )

    def _answer_with(self, parsed: ReadHead, rest: bytes) -> None:
        """Answer with the final head, whole when its body is here as well."""
        if self._owner.health.suspect:
            self._owner.answered()
        length = parsed.length
        option = parsed.fields.get(b"connection")
        minor_version = parsed.minor_version
        self._persistent = persists(minor_version, option) if option else minor_version == 1
        trailers: Fields | None = None
        if length == 0:
            body = None if parsed.status in BODILESS or self._method == b"HEAD" else b""
            surplus = rest
        elif 0 < length <= len(rest):
            body, surplus = rest[:length], rest[length:]
        else:
            reader = BodyReader(length, self._options)
            try:
                body = reader.read(rest)
            except HttpError as error:
                self._fail(UpstreamError(f"{self.name} sent a bad response: {error}"))
                return
            if not body and length > 0 and self._request_complete and not names_a_file(parsed):
                self._withhold(parsed)
                return
            if not reader.ended:
                self._stream(parsed, length if length > 0 else None, reader, body)
                return
            surplus, trailers = reader.surplus, reader.trailers
        asker = cast("Asker", self._asker)
        self._complete(clean=not surplus)
        asker.answered(
            UpstreamResponse(
                parsed.status,
                parsed.reason,
                parsed.fields,
                body,
                minor_version,
                trailers,
                head=parsed,
            )
        )

    def _withhold(self, parsed: ReadHead) -> None:
        """Wait a moment for the content behind a head."""
        self._withheld = parsed
        self._set_deadline()
        self._withholding = self._loop.call_later(WITHHOLD_S, self._give_head, parsed)

    def _withhold_no_more(self) -> None:
        self._withheld = None
        if self._withholding is not None:
            self._withholding.cancel()
            self._withholding = None

    def _give_head(self, parsed: ReadHead) -> None:
        """Answer with a head that has waited for its content."""
        self._withhold_no_more()
        self._stream(parsed, parsed.length, BodyReader(parsed.length, self._options), b"")

    def _stream(
        self, parsed: ReadHead, length: int | None, reader: BodyReader, held: bytes
    ) -> None:
        """Answer with the head, and go on with the body."""
        self._state = BODY
        self._reader = reader
        self._body = ResponseBody(self, length, held)
        if self._until_at < inf and is_event_stream(parsed):
            self._until_at = inf
        self._set_deadline()
        self._resolve(
            UpstreamResponse(
                parsed.status,
                parsed.reason,
                parsed.fields,
                self._body,
                parsed.minor_version,
                head=parsed,
            )
        )

    def _resolve(self, response: UpstreamResponse) -> None:
        """Give a response to the asker, who has to do something about it; else close."""
        if not cast("Asker", self._asker).answered(response):
            self.close()

    def _take_body(self, data: bytes) -> None:
        """Push the next bytes of the body, and end it where its framing says."""
        body = cast("ResponseBody", self._body)
        reader = cast("BodyReader", self._reader)
        try:
            content = reader.read(data)
        except HttpError as error:
            self._fail(UpstreamError(f"{self.name} sent a bad response: {error}"))
            return
        if content:
            body.push(content)
        if reader.ended and self._state == BODY:
            self._complete(clean=not reader.surplus)
            body.end(reader.trailers)

    def _complete(self, *, clean: bool) -> None:
        """Go back to the pool with a complete response, or close when that would not be safe."""
        if (
            clean
            and self._persistent
            and self._request_complete
            and not self._lost
            and not self._write_paused
            and not self._transport.get_write_buffer_size()
        ):
            self._reader = None
            self._body = None
            self._asker = None
            self._become_idle()
        else:
            self.close()

    def _become_idle(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self._state = IDLE
        self.reused = True
        self.deadline_at = self._loop.time() + self._options.idle_timeout_s
        self._owner.released(self)

    # ── The end ──────────────────────────────────────────────────────────────────────────────

    def eof_received(self) -> bool:
        """Take the end of the stream: that of a body without a length, else too early."""
        body, reader = self._body, self._reader
        if body is not None and reader is not None and reader.until_close:
            self.close()
            body.end(None)
        else:
            self._fail(self._broken_off(None))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the transport, by the upstream's will or by ours."""
        if exc is not None and self._state in {HEAD, BODY}:
            self._lost = True
            for data in last_reads(self._transport):
                if data:
                    self.data_received(data)
                elif not isinstance(exc, ConnectionResetError):
                    self.eof_received()  # behind a reset the end is the system's, not the sender's
                if self._state == CLOSED:
                    return
        if self._state != CLOSED:
            self._fail(self._broken_off(exc))

    def _broken_off(self, exc: Exception | None) -> UpstreamError:
        """Return the error for an end that came too early."""
        cause = f": {exc}" if exc is not None else ""
        if self._body is not None:
            return UpstreamError(f"{self.name} broke off in the middle of a body{cause}")
        if self._withheld is not None:
            return NoAnswerError(f"{self.name} broke off behind the head of its answer{cause}")
        if self._received:
            return NoAnswerError(f"{self.name} broke off before the end of a response head{cause}")
        kind = StaleConnectionError if self.reused else NoAnswerError
        return kind(f"{self.name} closed the connection without an answer{cause}")

    def _fail(self, error: UpstreamError | UpstreamTimeoutError) -> None:
        asker, body = self._asker, self._body
        if asker is not None and not isinstance(error, StaleConnectionError):
            self._owner.failed(error)
        self.close()
        if body is not None:
            body.fail(error)
        elif asker is not None:
            asker.failed(error)

    def _let_go(self) -> None:
        """Free everything that waits for this connection, and its place in the pool."""
        self.deadline_at = inf
        self._body = None
        self._withhold_no_more()
        self._asker = None
        self._reader = None
        self._wake_writer()
        self._owner.dropped(self)

    # ── The transport's callbacks ────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`; the body's, for a slow consumer."""
        if self._state == BODY and not self._reading_paused:
            self._reading_paused = True
            self._held_back_at = self._loop.time()
            self._transport.pause_reading()
            self._set_deadline()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._state == BODY and self._reading_paused:
            self._reading_paused = False
            self._until_at += self._loop.time() - self._held_back_at
            self._transport.resume_reading()
            self._set_deadline()

    def pause_writing(self) -> None:
        """Watch the upstream take more than 64 KiB that wait for it."""
        self._write_paused = True
        self._unsent = self._transport.get_write_buffer_size()
        self._set_deadline()

    def resume_writing(self) -> None:
        """Let the sender go on: the upstream took most of it."""
        self._write_paused = False
        self._wake_writer()
        self._set_deadline()

    def _wake_writer(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)


def names_a_file(head: ReadHead) -> bool:
    """Whether proxyd is to send a file in the place of the content, which may never come."""
    return head.fields.has_any(FILE_FIELDS)


def is_event_stream(head: ReadHead) -> bool:
    """Whether the content is meant to go on for as long as its client listens."""
    kind = head.fields.get(b"content-type") or b""
    return kind.lower().startswith(b"text/event-stream")
