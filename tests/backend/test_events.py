"""Server-sent events, under a real Waitress: at once, bounded, and over when they should be."""

import http.client
import json
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backend.controller import events
from backend.controller.state import State
from backend.model import posts, users
from tests.backend.served import asked, served


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    with served(app) as port:
        yield port


def publish(state: State, text: str, *, here: bool = True) -> int:
    """Post as mira, in this process or as if in another."""
    with state.database.write() as session:
        author = users.by_name(session, "mira")
        assert author is not None
        post_id = posts.publish(session, author, text).id
    if here:
        state.feed.announce()
    return post_id


def read_event(stream: http.client.HTTPResponse) -> dict[str, str]:
    """Return the fields of the next event; a comment has an empty name."""
    fields = {}
    while line := stream.readline().decode().rstrip("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    return fields


def newest(state: State) -> int:
    with state.database.read() as session:
        return posts.newest_id(session)


def wait_until_free(state: State, permits: int) -> None:
    """Wait until so many streams may begin."""
    taken = [state.streams.acquire(timeout=10) for _ in range(permits)]
    for one in taken:
        assert one
        state.streams.release()


def test_a_post_reaches_the_stream_at_once(state: State, port: int) -> None:
    with asked(port, "/events") as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.headers["Cache-Control"] == "private, no-store"
        assert read_event(stream) == {"retry": "2000", "id": str(newest(state))}
        post_id = publish(state, "One line,\nand another")
        event = read_event(stream)
    assert (event["event"], event["id"]) == ("post", str(post_id))
    values = json.loads(event["data"])
    assert values["author"] == "mira"
    assert values["text"] == "One line,\nand another"


def test_a_post_from_another_process_is_found_soon(state: State, port: int) -> None:
    with asked(port, "/events") as stream:
        read_event(stream)
        post_id = publish(state, "From elsewhere", here=False)
        assert read_event(stream)["id"] == str(post_id)


def test_a_client_that_comes_back_gets_what_it_missed(state: State, port: int) -> None:
    last = newest(state)
    missed = [publish(state, f"Missed {number}") for number in range(30)]
    # What the client says that it saw last goes before the address that it began with.
    with asked(port, "/events?after=1", **{"Last-Event-ID": str(last)}) as stream:
        read_event(stream)
        assert [int(read_event(stream)["id"]) for _ in missed] == missed
    with asked(port, f"/events?after={missed[-2]}") as stream:
        read_event(stream)
        assert int(read_event(stream)["id"]) == missed[-1]


def test_a_client_of_a_database_that_is_gone_gets_new_posts(state: State, port: int) -> None:
    with asked(port, "/events", **{"Last-Event-ID": "1000000"}) as stream:
        assert read_event(stream)["id"] == str(newest(state))
        post_id = publish(state, "New")
        assert read_event(stream)["id"] == str(post_id)


@pytest.mark.parametrize("last", ["x", "-1", "9" * 30])
def test_an_event_id_that_is_none_is_refused(client: FlaskClient, state: State, last: str) -> None:
    assert client.get("/events", headers={"Last-Event-ID": last}).status_code == 400
    assert client.get("/events", query_string={"after": last}).status_code == 400
    wait_until_free(state, 2)


def test_streams_leave_threads_for_pages(state: State, port: int) -> None:
    with asked(port, "/events") as first, asked(port, "/events") as second:
        assert (first.status, second.status) == (200, 200)
        for _ in range(4):
            with asked(port, "/events", Accept="application/json") as refused:
                assert refused.status == 503
                assert int(refused.headers["Retry-After"]) > 0
                assert json.loads(refused.read())["status"] == 503
        with asked(port, "/health") as page:
            assert page.status == 200
    wait_until_free(state, 2)


def test_a_stream_ends_when_its_client_is_gone(
    state: State, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_HEARTBEAT_S", 100.0)  # so that no write can find out
    with asked(port, "/events") as one, asked(port, "/events") as other:
        read_event(one)
        read_event(other)
    wait_until_free(state, 2)
    with asked(port, "/events") as again:
        assert again.status == 200


def test_a_question_for_the_head_alone_holds_no_stream(state: State, port: int) -> None:
    for _ in range(5):
        with asked(port, "/events", method="HEAD") as response:
            assert response.status == 200
        wait_until_free(state, 2)


def test_a_silent_stream_has_a_heartbeat(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_HEARTBEAT_S", 0.0)
    with asked(port, "/events") as stream:
        read_event(stream)
        assert read_event(stream) == {"": "still here"}


def test_a_stream_ends_by_itself_after_its_time(
    state: State, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_STREAM_S", 0.2)
    began_at = time.monotonic()
    with asked(port, "/events") as stream:
        read_event(stream)
        assert stream.read() == b""
    assert time.monotonic() - began_at < 5
    wait_until_free(state, 2)
