"""The load generator, as a process, against servers that answer rightly, wrongly and not at all."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.errors import LabError
from proxy.lab import load_crowds
from proxy.lab.application import DIGEST_FIELD, digest
from proxy.lab.generator import Generator
from proxy.lab.load_client import Checker, Client
from proxy.lab.load_job import Ask, Crowd, CrowdTold, LoadJob, Told
from proxy.lab.services import free_ports
from proxy.lab.visit import head
from tests.lab.serving import always, answer, serving

BODY = b"the right body\n"
KEY = b"a key"
ASK = Ask(head=head("GET", "/"), body=BODY)


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with Generator(dict(os.environ)) as running:
        yield running


def job(port: int, *crowds: Crowd, duration_s: float = 0.5, timeout_s: float = 5.0) -> LoadJob:
    return LoadJob(
        host="127.0.0.1",
        port=port,
        duration_s=duration_s,
        timeout_s=timeout_s,
        crowds=list(crowds),
    )


def closed(ask: Ask = ASK) -> Crowd:
    return Crowd(kind="closed", ask=ask, count=2)


def opened(rate: float = 100.0, count: int = 8, ask: Ask = ASK) -> Crowd:
    return Crowd(kind="open", ask=ask, count=count, rate=rate)


def only(told: Told) -> CrowdTold:
    (crowd,) = told.crowds
    return crowd


@pytest.mark.parametrize("crowd", [closed(), opened()], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (answer(BODY), "good"),
        (answer(BODY, "200 OK", "Connection: close"), "good"),
        (answer(BODY[:-1]), "wrong body"),
        (answer(BODY.upper()), "wrong body"),
        (answer(BODY, "503 Service Unavailable"), "503"),
        (b"nonsense\r\n\r\n", "broken off"),
        (answer(BODY)[:-1], "broken off"),
    ],
)
def test_every_answer_is_checked(
    generator: Generator, crowd: Crowd, told: bytes, outcome: str
) -> None:
    def once(sock: socket.socket) -> None:
        always_told = always(told)
        if outcome == "broken off" or b"close" in told:
            sock.recv(65536)
            sock.sendall(told)
        else:
            always_told(sock)

    with serving(once) as port:
        got = only(generator.run(job(port, crowd)))
    assert got.answers.keys() == {outcome}
    assert got.answers[outcome] >= 2


@pytest.mark.parametrize(
    ("field", "outcome"),
    [
        (f"{DIGEST_FIELD}: {digest(KEY, BODY)}", "good"),
        (f"{DIGEST_FIELD}: {digest(b'another key', BODY)}", "wrong body"),
        ("X-Other: 1", "wrong body"),
    ],
)
def test_a_page_is_right_when_it_carries_its_digest(
    generator: Generator, field: str, outcome: str
) -> None:
    with serving(always(answer(BODY, "200 OK", field))) as port:
        got = only(generator.run(job(port, closed(Ask(head=ASK.head, key=KEY)))))
    assert got.answers.keys() == {outcome}


@pytest.mark.parametrize("crowd", [closed(), opened()], ids=["closed", "open"])
def test_a_port_that_nobody_listens_on_is_refused(generator: Generator, crowd: Crowd) -> None:
    (port,) = free_ports(1)
    assert only(generator.run(job(port, crowd))).answers.keys() == {"refused"}


@pytest.mark.parametrize("crowd", [closed(), opened()], ids=["closed", "open"])
def test_who_gets_no_answer_leaves(generator: Generator, crowd: Crowd) -> None:
    def silent(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    with serving(silent) as port:
        got = only(generator.run(job(port, crowd, duration_s=0.3, timeout_s=0.1)))
    assert got.answers.keys() == {"timed out"}


def test_an_open_crowd_comes_at_its_rate_whatever_the_server_does(generator: Generator) -> None:
    def stalled(sock: socket.socket) -> None:
        sock.recv(65536)
        time.sleep(0.3)
        sock.sendall(answer(BODY))
        always(answer(BODY))(sock)

    with serving(stalled) as port:
        got = only(generator.run(job(port, opened(rate=100, count=1), duration_s=0.2)))
    visits = sorted(got.visits, key=lambda visit: visit.at_s)
    assert got.answers == {"good": 20}
    assert [visit.at_s for visit in visits] == pytest.approx([n / 100 for n in range(20)])
    # All came while the server stood still: each waited for the rest of that time.
    assert all(visit.took_ms >= 300 - visit.at_s * 1000 - 1 for visit in visits)


def test_what_waits_for_a_connection_is_given_up_as_well(generator: Generator) -> None:
    def silent(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    with serving(silent) as port:
        got = only(generator.run(job(port, opened(count=1), duration_s=0.2, timeout_s=0.1)))
    assert got.answers == {"timed out": 20}


def test_a_crowd_that_is_exact_asks_as_often_as_its_rate_says(generator: Generator) -> None:
    exact = Crowd(kind="open", ask=ASK, count=8, rate=500.0, exact=True)
    with serving(always(answer(BODY))) as port:
        got = only(generator.run(job(port, exact, duration_s=0.1)))
    assert got.answers == {"good": 50}
    assert max(visit.at_s for visit in got.visits) == pytest.approx(0.098)


def test_idle_connections_are_there_before_the_visitor_comes(generator: Generator) -> None:
    connected: list[int] = []
    with serving(always(answer(BODY))) as port:
        idle = Crowd(kind="idle", ask=ASK, count=70)
        told = generator.run(job(port, idle, opened(), duration_s=0.1), connected.append)
    assert connected == [70]
    assert told.crowds[0].connected == 70
    assert told.crowds[1].answers == {"good": 10}


def test_idle_connections_that_the_server_closes_are_not_held(generator: Generator) -> None:
    def once(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer(BODY, "200 OK", "Connection: close"))

    with serving(once) as port:
        told = generator.run(job(port, Crowd(kind="idle", ask=ASK, count=5), opened()))
    assert told.crowds[0].connected == 0
    assert told.crowds[0].answers == {"good": 5}


def test_idle_connections_give_up_at_the_first_that_do_not_get_in(generator: Generator) -> None:
    def silent(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    with serving(silent) as port:
        idle = Crowd(kind="idle", ask=ASK, count=1000)
        told = generator.run(job(port, idle, timeout_s=0.1))
    assert told.crowds[0].answers == {"timed out": 1000}


def test_slow_clients_send_and_take_a_little_at_a_time(generator: Generator) -> None:
    content = 100_000
    received: list[int] = []

    def taking(sock: socket.socket) -> None:
        got = sock.recv(65536)
        if got.startswith(b"GET"):
            sock.sendall(answer(bytes(content)))
            return
        while piece := sock.recv(65536):
            received.append(len(piece))

    with serving(taking) as port:
        slow = {"count": 1, "rate": 10_000.0, "content": content}
        upload = Crowd(kind="upload", ask=Ask(head=head("POST", "/")), **slow)  # type: ignore[arg-type]
        download = Crowd(kind="download", ask=ASK, **slow)  # type: ignore[arg-type]
        told = generator.run(job(port, upload, download, duration_s=2.0))
    assert [crowd.connected for crowd in told.crowds] == [1, 1]
    assert 0 < sum(received) < content


def test_a_generator_that_died_is_told() -> None:
    with Generator(dict(os.environ)) as running:
        running._process.kill()
        running._process.wait()
        with pytest.raises(LabError, match="died"):
            running.run(job(1, closed()))


class AtOnce:
    """A connection whose request is answered, and which is closed, before `send` returns."""

    open = False
    began_at = 0.0

    def __init__(self, done: Callable[[object, str], None]) -> None:
        self.done = done

    def send(self, head: bytes, began_at: float) -> None:
        self.began_at = began_at
        self.done(self, "good")


async def test_who_waits_for_a_connection_gets_the_place_of_one_that_ends_however_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(host: str, port: int, checker: object, done: Any) -> AtOnce:
        await asyncio.sleep(0)
        return AtOnce(done)

    monkeypatch.setattr(load_crowds, "connect", connect)
    crowd = opened(rate=100_000.0, count=1)
    told = await load_crowds.OpenCrowd(job(0, crowd, duration_s=0.001, timeout_s=5), crowd).run()
    assert told.answers == {"good": 100}


async def test_a_connection_that_was_closed_before_its_request_is_broken_off() -> None:
    heard: list[str] = []
    client = Client(Checker(ASK), lambda _, outcome: heard.append(outcome))
    client.send(ASK.head, 0.0)
    assert heard == ["broken off"]
    assert not client.waiting
