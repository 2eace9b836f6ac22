"""What no route gets to see. RFC 9110 §7.6.2, §9.3.7, §9.3.8, §10.1.1."""

from typing import cast

import pytest

from proxy.errors import ExpectationError, MethodNotAllowedError
from proxy.message import FieldLine, RequestBody
from proxy.pipeline.admit import ALLOW, admit
from proxy.pipeline.respond import respond
from proxy.pipeline.route import route
from tests.pipeline.asking import Asking, Content

CONTENT = cast("RequestBody", Content(1))


def test_what_is_usual_goes_on_to_the_routes() -> None:
    assert admit(Asking().exchange) is route


def test_trace_is_refused() -> None:
    with pytest.raises(MethodNotAllowedError) as refused:
        admit(Asking(method=b"TRACE").exchange)
    assert refused.value.fields == ALLOW


@pytest.mark.parametrize(
    ("value", "minor_version", "with_content", "refused"),
    [
        (b"100-continue", 1, True, False),
        (b"100-Continue", 1, True, False),
        (b"tea", 1, True, True),
        (b"tea", 0, True, False),
        (b"tea", 1, False, False),
        (None, 1, True, False),
    ],
)
def test_an_expectation_that_cannot_be_met_is_refused(
    value: bytes | None, minor_version: int, with_content: bool, refused: bool
) -> None:
    asking = Asking(
        method=b"POST",
        fields=((b"Expect", value),) if value is not None else (),
        minor_version=minor_version,
        body=CONTENT if with_content else None,
    )
    if refused:
        with pytest.raises(ExpectationError):
            admit(asking.exchange)
    else:
        assert admit(asking.exchange) is route


@pytest.mark.parametrize(
    ("method", "path", "fields", "answered"),
    [
        (b"OPTIONS", b"*", (), True),
        (b"OPTIONS", b"/a", (), False),
        (b"OPTIONS", b"/a", ((b"Max-Forwards", b"0"),), True),
        (b"OPTIONS", b"/a", ((b"Max-Forwards", b"1"),), False),
        (b"GET", b"/a", ((b"Max-Forwards", b"0"),), False),
    ],
)
def test_options_about_this_server_is_answered_here(
    method: bytes, path: bytes, fields: tuple[FieldLine, ...], answered: bool
) -> None:
    asking = Asking(method=method, path=path, fields=fields)
    step = admit(asking.exchange)
    assert (step is respond) == answered
    response = asking.exchange.response
    assert (response is not None) == answered
    if response is not None:
        assert response.status == 204
        assert response.fields == list(ALLOW)


def test_each_answer_about_this_server_has_its_own_head() -> None:
    first, second = Asking(method=b"OPTIONS", path=b"*"), Asking(method=b"OPTIONS", path=b"*")
    admit(first.exchange)
    admit(second.exchange)
    assert first.exchange.response is not second.exchange.response  # a reload may change it
