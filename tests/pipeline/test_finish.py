"""The log line, and the connection goes on."""

import pytest

from proxy.message import Response
from proxy.pipeline.finish import finish
from tests.pipeline.asking import Asking


@pytest.mark.parametrize(
    ("response", "began", "status"),
    [(Response(200, []), True, 200), (Response(200, []), False, 499), (None, False, 499)],
)
def test_the_log_says_what_the_client_was_sent(
    response: Response | None, began: bool, status: int
) -> None:
    asking = Asking(path=b"/a")
    asking.exchange.response = response
    asking.sink.began = began
    finish(asking.exchange)
    assert asking.log.lines == [(b"/a", status)]
    assert asking.sink.done == 1


def test_what_could_not_be_read_as_a_request_is_logged_without_one() -> None:
    asking = Asking(method=b"")
    finish(asking.exchange)
    assert asking.log.lines == [(b"-", 499)]
