"""The answer is sent whole, or as it comes."""

import pytest

from proxy.message import Response
from proxy.pipeline.exchange import Wait
from proxy.pipeline.finish import finish
from proxy.pipeline.respond import respond
from tests.pipeline.asking import Asking


def test_what_is_sent_at_once_is_finished_at_once() -> None:
    asking = Asking()
    asking.exchange.response = Response(200, [])
    assert respond(asking.exchange) is finish
    assert asking.sink.sent_responses == [asking.exchange.response]


async def test_what_streams_is_waited_for() -> None:
    asking = Asking()
    asking.exchange.response = Response(200, [])
    asking.sink.whole = False
    step = respond(asking.exchange)
    assert isinstance(step, Wait)
    assert await step.work is finish


def test_there_must_be_an_answer() -> None:
    with pytest.raises(RuntimeError):
        respond(Asking().exchange)
