"""What the application's process says of how long the application took."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from proxy.process.wsgi_timing import FIELD, KEY, tell_times
from proxy.rules.server_timing import PRIVATE, parse

Headers = list[tuple[str, str]]
GIVEN: Headers = [("Content-Type", "text/plain"), ("x-proxyd-timing", "app;dur=9"), ("A", "b")]


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    time.sleep(0.02)
    start("200 OK", GIVEN)
    assert KEY not in environ
    return [b"done"]


def ask(*, cpu: bool, **environ: str) -> Headers:
    found: list[Headers] = []
    content = tell_times(application, cpu=cpu)(environ, lambda _, headers: found.append(headers))
    assert content == [b"done"]
    return found[0]


def test_the_field_is_called_as_proxyd_calls_it() -> None:
    assert FIELD.encode() == PRIVATE
    assert "HTTP_" + FIELD.upper().replace("-", "_") == KEY


@pytest.mark.parametrize("cpu", [True, False])
def test_who_is_asked_says_how_long_it_took_and_nobody_else_does(cpu: bool) -> None:
    headers = ask(cpu=cpu, **{KEY: "1"})
    assert headers[:2] == [GIVEN[0], GIVEN[2]]
    ((name, value),) = headers[2:]
    assert name == FIELD
    found = {one.name: one.duration_s for one in parse([value.encode()])}
    assert found.pop(b"app") >= 0.02
    if cpu:
        assert 0 <= found.pop(b"app_cpu") < 0.02  # it slept
    assert found == {}


def test_who_is_not_asked_says_nothing() -> None:
    assert ask(cpu=True) is GIVEN
