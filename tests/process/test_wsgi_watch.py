"""What the application's process notices of requests that hang."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any
from wsgiref.util import FileWrapper

import pytest

from proxy.process import wsgi_watch
from proxy.process.wsgi_watch import TIMEOUT_KEY, TOTAL_KEY, Watch

Environ = dict[str, Any]
ASKED = {"REQUEST_METHOD": "GET", "PATH_INFO": "/slow"}


class Told:
    """A watch and what it reports."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.watch = Watch(60, writing)
        self._writing = writing

    def counts(self) -> bytes:
        os.set_blocking(self.reading, False)
        try:
            return os.read(self.reading, 100)
        except BlockingIOError:
            return b""

    def ask(self, application: Any, **more: Any) -> Any:
        return self.watch.over(application)(ASKED | more, lambda *_: None)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self._writing)


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.close()


def waits_in(gate: threading.Event) -> Callable[..., Iterable[bytes]]:
    def application(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        gate.wait(10)
        return [b"done"]

    return application


def test_a_request_that_hangs_is_told_with_every_stack(
    told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    gate = threading.Event()
    thread = threading.Thread(target=lambda: told.ask(waits_in(gate)))
    thread.start()
    now = monotonic()
    told.watch.look(now + 59)
    assert told.counts() == b""
    told.watch.look(now + 61)
    told.watch.look(now + 62)
    assert told.counts() == b"1\n"
    gate.set()
    thread.join()
    told.watch.look(now + 63)
    assert told.counts() == b"0\n"
    said = capfd.readouterr().err
    assert said.count("GET /slow has produced nothing for 60 s and hangs") == 1
    assert "at work on GET /slow (most recent call last):" in said
    assert "gate.wait(10)" in said
    assert "GET /slow has come to an end" in said


def test_a_route_may_give_a_request_more_time(told: Told) -> None:
    def application(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        assert TIMEOUT_KEY not in environ
        told.watch.look(monotonic() + 299)
        assert told.counts() == b""
        told.watch.look(monotonic() + 301)
        assert told.counts() == b"1\n"
        return []

    told.ask(application, **{TIMEOUT_KEY: "300.0"})


def test_stacks_are_not_written_for_each_of_many(
    told: Told, capfd: pytest.CaptureFixture[str]
) -> None:
    def application(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        told.watch.look(monotonic() + 61)
        return []

    for _ in range(3):
        told.ask(application)
    said = capfd.readouterr().err
    assert said.count("and hangs") == 3
    assert said.count("most recent call last") <= threading.active_count()


def test_a_stream_hangs_only_while_it_is_asked_for_more(told: Told) -> None:
    class Stream:
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            yield b"one"
            told.watch.look(monotonic() + 61)
            yield b"two"

        def close(self) -> None:
            self.closed = True

    stream = Stream()
    content = told.ask(lambda environ, start: stream)
    told.watch.look(monotonic() + 61)
    assert next(content) == b"one"
    told.watch.look(monotonic() + 61)  # its client reads slowly
    assert told.counts() == b""
    assert list(content) == [b"two"]
    assert told.counts() == b"1\n"
    content.close()
    assert stream.closed
    told.watch.look(monotonic() + 61)
    assert told.counts() == b"0\n"


class Dribble:
    """An application that sends a byte every 20 s of a clock that it turns itself."""

    def __init__(self, told: Told, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        self.now = monotonic()
        self.told = told
        self.kind = kind
        monkeypatch.setattr(wsgi_watch, "monotonic", lambda: self.now)

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        assert TOTAL_KEY not in environ
        start("200 OK", [("Content-Type", self.kind)])
        while True:
            self.now += 20
            self.told.watch.look(self.now)
            yield b"x"


def test_what_dribbles_is_not_done_after_its_total_time(
    told: Told, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    application = Dribble(told, monkeypatch, "text/plain")
    content = told.ask(application, **{TOTAL_KEY: "90"})
    for _ in range(4):
        next(content)
        application.now += 1000  # its client reads slowly
    assert told.counts() == b""
    next(content)
    assert told.counts() == b"1\n"
    said = capfd.readouterr().err
    assert "GET /slow is not done after 100.0 s (total_timeout)" in said


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
def test_an_event_stream_has_all_the_time_that_it_wants(
    told: Told, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    content = told.ask(Dribble(told, monkeypatch, kind), **{TOTAL_KEY: "90"})
    for _ in range(10):
        next(content)
    assert told.counts() == b""


def test_what_a_server_sends_by_itself_is_not_changed(told: Told) -> None:
    whole = [b"whole"]
    assert told.ask(lambda environ, start: whole) is whole
    with open(os.devnull, "rb") as file:
        wrapped = FileWrapper(file)
        given = told.ask(lambda environ, start: wrapped, **{"wsgi.file_wrapper": FileWrapper})
        assert given is wrapped


def test_an_application_that_raises_is_forgotten(told: Told) -> None:
    def application(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        told.ask(application)
    told.watch.look(monotonic() + 61)
    assert told.counts() == b""


def test_nobody_need_listen() -> None:
    watch = Watch(60)

    def application(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        watch.look(monotonic() + 61)
        return []

    assert watch.over(application)(ASKED, lambda *_: None) == []
