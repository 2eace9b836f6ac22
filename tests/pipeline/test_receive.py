"""The step that takes an upstream's answer; its ways are tested with those of `forward`."""

from proxy.pipeline.engine import run
from proxy.pipeline.receive import receive
from tests.pipeline.asking import Asking


def test_receive_needs_an_answer() -> None:
    asking = Asking()
    run(asking.exchange, receive)
    assert asking.log.lines == [(b"/", 500)]
