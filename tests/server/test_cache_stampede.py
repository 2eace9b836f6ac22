"""A thousand clients who want one thing at once: real connections, two workers, one origin."""

import os
from collections.abc import Iterator

import pytest

from tests.process.running import wait_for
from tests.server.caching import bodies, clients, configuration, is_hit, many_files, origin, told
from tests.server.daemon import Daemon, serving
from tests.server.origin import NOT_MODIFIED, Answer, Asked, Origin

__all__ = ["many_files", "origin"]  # fixtures

CLIENTS = 1000
ETAG = 'ETag: "one"'
NOT_STORED = "Cache-Control: no-store"

pytestmark = [pytest.mark.usefixtures("many_files"), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def cached(origin: Origin) -> Iterator[Daemon]:
    with serving(configuration(origin)) as daemon:
        yield daemon
        assert daemon.stop() == 0
        daemon.check_clean()


def test_a_thousand_clients_are_one_request_and_get_the_answer_as_it_comes(
    cached: Daemon, origin: Origin
) -> None:
    first, second = os.urandom(30_000), os.urandom(30_000)
    head, rest = origin.gate(), origin.gate()
    origin.on("/one", lambda _: Answer([first, rest, second], hold=head))
    with clients(cached, CLIENTS) as wires:
        for wire in wires[: CLIENTS // 2]:
            wire.get("/one")
        wait_for(lambda: origin.count("/one"), "the request")
        head.open()
        for wire in wires[CLIENTS // 2 :]:
            wire.get("/one")
        heads = [wire.head() for wire in wires]
        assert {wire.exactly(len(first)) for wire in wires} == {first}
        rest.open()
        assert {wire.exactly(len(second)) for wire in wires} == {second}
    assert origin.count("/one") == 1
    assert {message.status for message in heads} == {200}
    assert sum("; collapsed" in told(message) for message in heads) == CLIENTS - 1


def test_a_thousand_clients_are_one_request_when_what_is_stored_is_stale(
    cached: Daemon, origin: Origin
) -> None:
    again = origin.gate()

    def answer(asked: Asked) -> Answer:
        fields = ("Cache-Control: public, max-age=600", ETAG)
        if asked.fields.get("if-none-match") == '"one"':
            return Answer(b"stale", fields, NOT_MODIFIED, again)
        return Answer(b"stale", fields)

    origin.on("/stale", answer)
    assert not is_hit(cached.ask("/stale"))
    assert cached.ask("/stale", "Proxyd-Purge: soft", method="PURGE").status == 200
    with clients(cached, CLIENTS) as wires:
        for wire in wires:
            wire.get("/stale")
        wait_for(lambda: origin.count("/stale") > 1, "the request")
        again.open()
        assert bodies([wire.message() for wire in wires]) == {b"stale"}
    assert origin.count("/stale") == 2


def test_none_of_a_thousand_clients_waits_for_another_when_the_answer_is_not_stored(
    cached: Daemon, origin: Origin
) -> None:
    """Who comes first is waited for, as nobody knows yet; all others are at the origin at once."""
    crowd = origin.gate()

    def answer(asked: Asked) -> Answer:
        hold = None if asked.number == 1 else crowd
        return Answer(b"%d" % asked.number, (NOT_STORED,), hold=hold)

    origin.on("/own", answer)
    for round_ in (1, 2):
        origin.most_at_once = 0
        with clients(cached, CLIENTS) as wires:
            for wire in wires:
                wire.get("/own")
            wait_for(lambda: origin.count("/own") == round_ * CLIENTS, "all of them")  # noqa: B023
            assert origin.most_at_once >= CLIENTS - 1
            crowd.open()
            messages = [wire.message() for wire in wires]
        assert len(bodies(messages)) == CLIENTS
        assert not any(is_hit(message) for message in messages)
        crowd = origin.gate()
