"""The answer of an upstream for a task that awaits it."""

import asyncio
from collections.abc import Callable

from proxy.errors import UpstreamError, UpstreamTimeoutError
from proxy.message import FieldLine
from proxy.upstream.response import UpstreamResponse

OnInformational = Callable[[int, list[FieldLine]], None]


class AwaitedAnswer(asyncio.Future[UpstreamResponse]):
    """An `Asker` whose result is the final response; `on_informational` gets the interim ones."""

    def __init__(
        self,
        on_informational: OnInformational,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(loop=loop)
        self._on_informational = on_informational

    def informed(self, status: int, fields: list[FieldLine]) -> None:
        """Pass an interim response on."""
        self._on_informational(status, fields)

    def answered(self, response: UpstreamResponse) -> bool:
        """Wake who awaits this, unless they have gone."""
        if self.done():
            return False
        self.set_result(response)
        return True

    def failed(self, error: UpstreamError | UpstreamTimeoutError) -> None:
        """Let the error be raised where this is awaited."""
        if not self.done():
            self.set_exception(error)

    def drop(self) -> None:
        """Nobody will look at it any more, not even at its error."""
        if self.done() and not self.cancelled():
            self.exception()
