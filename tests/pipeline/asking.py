"""An exchange without a wire: a sink that remembers, and a request made of what a test says."""

from proxy.message import FieldLine, Fields, Request, RequestBody, Response
from proxy.pipeline.exchange import Exchange, Peer, Sink
from proxy.pipeline.site import Route, Site
from proxy.rules.forwarding import TrustedNetworks
from tests.protocol.wire import LogLines


class Recorded:
    """The part of a Sink that the steps use; `whole` is what `send` returns."""

    timing = None

    def __init__(self) -> None:
        self.began = False
        self.closing = False
        self.sent_responses: list[Response] = []
        self.done = 0
        self.whole = True
        self.failure: Exception | None = None

    def now(self) -> float:
        return 5.0

    def send(self, response: Response) -> bool:
        if self.failure is not None:
            raise self.failure
        self.began = True
        self.sent_responses.append(response)
        return self.whole

    async def sent(self) -> None:
        return None

    def exchange_done(self, exchange: Exchange) -> None:
        self.done += 1


class Asking:
    """An exchange and all that a test wants to know of it."""

    def __init__(
        self,
        *routes: Route,
        method: bytes = b"GET",
        path: bytes = b"/",
        host: bytes = b"h",
        fields: tuple[FieldLine, ...] = (),
        minor_version: int = 1,
        body: RequestBody | None = None,
    ) -> None:
        self.log = LogLines()
        self.sink = Recorded()
        self.site = Site(routes, TrustedNetworks(()), self.log)  # type: ignore[arg-type]
        peer = Peer("192.0.2.1", 40000, "192.0.2.80", 80, b"http", False)
        sink: Sink = self.sink  # type: ignore[assignment]
        self.exchange = Exchange(self.site, sink, peer, 3.0)
        self.exchange.request = Request(
            method, path, minor_version, Fields(fields), path, None, host, host
        )
        self.exchange.request.body = body


class Content:
    """A request's content of which only the length matters."""

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.limit_bytes = 0
        self.received = 0
