"""One request on its way through the pipeline, from first byte to log line."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from proxy.errors import HttpError
from proxy.message import FieldLine, Request, Response
from proxy.pipeline.entrance import OPEN
from proxy.rules.forwarding import Origin

if TYPE_CHECKING:
    from proxy.pipeline.question import Question
    from proxy.pipeline.site import Route, Site
    from proxy.pipeline.timing import Timing
    from proxy.upstream.response import UpstreamResponse

Step = Callable[["Exchange"], "Step | Wait | None"]


class Wait:
    """What a step returns when it needs I/O: the engine awaits it, and goes on with its result."""

    __slots__ = ("work",)

    def __init__(self, work: Coroutine[Any, Any, Step | None]) -> None:
        self.work = work


class Waiting(Protocol):
    """What an exchange waits for: a task, or somebody who will run its next step."""

    def cancel(self) -> object:
        """Take the exchange to its end, because its client has left."""


class Peer:
    """Who is at the other end of a client connection, as the connection itself says.

    `address` and `local_address` are text without a port ("unix:" for a unix socket); `trusted` is
    whether `trusted_proxies` names the address. `scheme` is b"http" or b"https". `certificate` is
    what the application learns of a client certificate, empty where none is asked for.
    """

    __slots__ = (
        "address",
        "certificate",
        "entrance",
        "local_address",
        "local_port",
        "port",
        "scheme",
        "trusted",
    )

    def __init__(
        self,
        address: str,
        port: int,
        local_address: str,
        local_port: int,
        scheme: bytes,
        trusted: bool,
    ) -> None:
        self.address = address
        self.port = port
        self.local_address = local_address
        self.local_port = local_port
        self.scheme = scheme
        self.trusted = trusted
        self.entrance = OPEN
        self.certificate: tuple[FieldLine, ...] = ()


class Sink(Protocol):
    """The client's side of one exchange; a wire protocol implements it.

    `closing` may be set to end the connection with this exchange.
    """

    closing: bool

    @property
    def began(self) -> bool:
        """Whether the head of the final response was sent."""

    @property
    def timing(self) -> "Timing | None":
        """Where to note what the exchange waits for; None where nobody is told."""

    def now(self) -> float:
        """Return the monotonic time in seconds."""

    def inform(self, status: int, fields: list[FieldLine]) -> None:
        """Send an interim (1xx) response. RFC 9110 §15.2."""

    def send(self, response: Response) -> bool:
        """Send the final response; True when all of it is handed over, False while it streams."""

    async def sent(self) -> None:
        """Wait for the end of the response that `send` left streaming.

        Raises ClientGoneError when the client left, UpstreamError when the body broke off.
        """

    async def tunnel(self, response: Response, upstream: asyncio.Transport, early: bytes) -> None:
        """Send the 101, then pass bytes both ways until both sides have ended. RFC 9110 §7.8.

        `upstream` has its reading paused; `early` is what it sent behind its head.
        """

    def exchange_done(self, exchange: "Exchange") -> None:
        """The exchange is over and logged; the connection may begin the next one."""


class Exchange:
    """Mutable state of one request; steps read and write it, nothing else holds request state.

    `began_at` and `upstream_s` are seconds of the monotonic clock; `client` is the address
    that the log and the application see; `origin` is worked out where somebody needs it.
    `question` is what the cache was asked; `passed` is why the request goes past it (a constant of
    `rules.cache_status`), `waited` that it waited for another one in vain before. `inner` is an
    exchange of the cache's own, which no client's log line tells of; `inside` is one that another
    worker asks for.
    `answer` is the upstream's, until `receive` has made a response of it. `sender` sends the
    request's content upstream, `task` is all else that waits.
    """

    __slots__ = (
        "answer",
        "began_at",
        "body_bytes",
        "client",
        "failure",
        "inner",
        "inside",
        "origin",
        "passed",
        "peer",
        "question",
        "request",
        "request_id",
        "response",
        "route",
        "sender",
        "sink",
        "site",
        "task",
        "upstream_name",
        "upstream_s",
        "waited",
    )

    request: Request

    def __init__(self, site: "Site", sink: Sink, peer: Peer, began_at: float) -> None:
        self.site = site
        self.sink = sink
        self.peer = peer
        self.began_at = began_at
        self.client = peer.address
        self.route: Route | None = None
        self.response: Response | None = None
        self.failure: HttpError | None = None
        self.origin: Origin | None = None
        self.question: Question | None = None
        self.passed = b""
        self.waited = False
        self.inner = False
        self.inside = False
        self.request_id = b""
        self.body_bytes = 0
        self.upstream_name = ""
        self.upstream_s = -1.0
        self.answer: UpstreamResponse | None = None
        self.task: Waiting | None = None
        self.sender: asyncio.Task[None] | None = None
