"""What a visitor learns of its own request: the parts of its time, and who has lied."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.lab.application import DIGEST_FIELD, digest
from proxy.lab.experiments.journey import figures
from proxy.lab.journey import PARTS, Trip, is_whole, spans, travel

KEY = b"key"
BODY = b"a page"
TOLD = {"accept": 0.001, "queue": 0.002, "connect": 0.0, "upstream": 0.02, "total": 0.025}
PAGE = {"page": 0.012, "page_cpu": 0.004}


def trip(told: dict[str, float], *, hit: bool = False) -> Trip:
    return Trip(
        outcome="good", connecting_s=0.001, waiting_s=0.03, sending_s=0.002, told=told, hit=hit
    )


def parts(made: Trip, *layers: str) -> dict[str, tuple[str, float]]:
    """Return the layer and the milliseconds of each part, which follow one another."""
    found = spans(made, [*layers, "application"])
    ended_ms = 0.0
    for span in found:
        assert span.start_ms == pytest.approx(ended_ms, abs=0.002)
        ended_ms += span.duration_ms
    assert ended_ms == pytest.approx(made.total_s * 1000, abs=0.005)
    names = [span.name for span in found]
    assert names == [name for name in PARTS if name in names]  # each once
    return {span.name: (span.layer, span.duration_ms) for span in found}


def test_what_a_server_does_not_tell_stays_one_part() -> None:
    assert parts(trip(PAGE), "nginx", "Waitress") == {
        "connecting": ("visitor", 1.0),
        "server": ("nginx and Waitress", 18.0),
        "computing": ("application", 4.0),
        "waiting": ("application", 8.0),
        "sending": ("nginx", 2.0),
    }


def test_proxyd_tells_its_parts_and_those_without_time_are_left_out() -> None:
    told = {**TOLD, **PAGE, "app": 0.013, "app_cpu": 0.005}
    assert parts(trip(told), "proxyd", "Waitress") == {
        "connecting": ("visitor", 1.0),
        "on the way": ("network", 5.0),
        "accept": ("proxyd", 1.0),
        "queue": ("proxyd", 2.0),
        "server": ("Waitress", 7.0),
        "computing": ("application", 5.0),
        "waiting": ("application", 8.0),
        "answer": ("proxyd", 2.0),
        "sending": ("proxyd", 2.0),
    }


def test_the_application_is_measured_inside_behind_a_server_of_others() -> None:
    found = parts(trip({**TOLD, **PAGE}), "proxyd", "gunicorn")
    assert found["server"] == ("gunicorn", 8.0)
    assert found["computing"] == ("application", 4.0)


def test_what_is_stored_of_another_request_counts_for_nothing() -> None:
    made = trip({**PAGE, "accept": 0.001, "cache": 0.024, "total": 0.025}, hit=True)
    assert parts(made, "proxyd", "Waitress") == {
        "connecting": ("visitor", 1.0),
        "on the way": ("network", 5.0),
        "accept": ("proxyd", 1.0),
        "cache": ("proxyd", 24.0),
        "sending": ("proxyd", 2.0),
    }
    assert figures(made) == {"total": 33.0, "outside": 33.0}


def test_a_thread_computes_no_longer_than_the_application_takes() -> None:
    # Two clocks; that of the CPU may be a little ahead.
    made = trip({"page": 0.004, "page_cpu": 0.0041})
    assert figures(made) == {"total": 33.0, "outside": 29.0, "application": 4.0, "computing": 4.0}


@contextmanager
def answering(*pieces: bytes) -> Iterator[tuple[str, int]]:
    """Listen for one visitor, and send it so much in so many pieces."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


def page(status: str = "200 OK", body: bytes = BODY, length: int = len(BODY)) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {length}",
        f"{DIGEST_FIELD}: {digest(KEY, BODY)}",
        "server-timing: page;dur=2",
        'Server-Timing: cache;desc=hit;dur=1, total;dur=1.5;desc="all of it"',
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ([page()], "good"),
        ([page()[:60], page()[60:]], "good"),
        ([page("500 Oops")], "500"),
        ([page(body=b"other.")], "wrong body"),
        ([page(length=99)], "broken off"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "broken off"),
        ([], "broken off"),
    ],
)
def test_an_answer_is_good_when_it_is_the_page_and_whole(pieces: list[bytes], outcome: str) -> None:
    with answering(*pieces) as address:
        made = travel(address, b"GET / HTTP/1.1\r\n\r\n", KEY, 5.0)
    assert made.outcome == outcome
    if outcome == "good":
        assert made.hit
        assert made.told == {"page": 0.002, "cache": 0.001, "total": 0.0015}
        assert min(made.connecting_s, made.waiting_s) > 0


def test_who_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = travel(listener.getsockname(), b"GET / HTTP/1.1\r\n\r\n", KEY, 0.05)
        assert made.outcome == "timed out"
        address = listener.getsockname()
    assert travel(address, b"", KEY, 5.0).outcome == "refused"


def test_a_length_that_is_none_is_never_reached() -> None:
    assert not is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: all\r\n\r\nx")
