"""A client that waits for what is fetched for several."""

from typing import Protocol

from proxy.errors import ClientGoneError
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.fail import step_after
from proxy.pipeline.question import Question


class Awaited(Protocol):
    """What is waited for."""

    def left(self, waiting: "Waiting") -> None:
        """One of those who waited has left."""


class Waiting:
    """Stands in for the task of an exchange until somebody says how that goes on.

    `why` is what Cache-Status says of the request. `purge_seq` is the newest purge at its time: an
    answer that was asked for before it, and that it is about, is not for this client.
    """

    __slots__ = ("awaited", "exchange", "purge_seq", "question", "why")

    def __init__(
        self, exchange: Exchange, question: Question, awaited: Awaited, why: bytes, purge_seq: int
    ) -> None:
        self.exchange = exchange
        self.question = question
        self.awaited = awaited
        self.why = why
        self.purge_seq = purge_seq
        exchange.task = self
        group = None if exchange.route is None else exchange.route.group
        # From now on a client that leaves ends this.
        exchange.upstream_name = "" if group is None else group.name

    def go_on(self, step: Step) -> None:
        """Leave, and take the exchange from `step` on."""
        if self.exchange.task is self:
            self.exchange.task = None
            run(self.exchange, step)

    def cancel(self) -> None:
        """The client has left."""
        if self.exchange.task is self:
            self.exchange.task = None
            self.awaited.left(self)
            run(self.exchange, step_after(self.exchange, ClientGoneError("the client left")))
