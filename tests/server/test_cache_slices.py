"""Large objects in slices: what clients get of them, and what the origin is asked for.

Two workers, a real disk, an origin that knows ranges. Slices are of 64 KiB, the smallest there are.
"""

import os
import re
from collections.abc import Iterator

import pytest

from tests.process.running import wait_for
from tests.server.caching import (
    cache_files,
    clients,
    configuration,
    is_hit,
    on_both,
    origin,
    restarted,
)
from tests.server.daemon import Daemon, serving
from tests.server.origin import NOT_MODIFIED, Answer, Asked, Origin
from tests.server.wire import Message

__all__ = ["origin"]  # a fixture

SLICE = 65536
# Five slices, of which the last one is short.
SIZE = 4 * SLICE + 1000
FRESH = "Cache-Control: public, max-age=600"
ROUTES = """
[[route]]
path = "/*"
to = "origin"
[route.cache]
slice = "64KiB"
"""


class Film:
    """An object that is answered for in ranges; `change` makes another version of it."""

    def __init__(self, size: int = SIZE, *, knows_ranges: bool = True) -> None:
        self.size = size
        self.knows_ranges = knows_ranges
        self.change()

    def change(self) -> None:
        self.content = os.urandom(self.size)
        self.etag = f'"{self.content[:8].hex()}"'

    def __call__(self, asked: Asked) -> Answer:
        fields = [FRESH, f"ETag: {self.etag}", "Accept-Ranges: bytes"]
        if asked.fields.get("if-none-match") == self.etag:
            return Answer(self.content, fields, NOT_MODIFIED)
        wanted = asked.fields.get("range")
        if wanted is None or not self.knows_ranges:
            return Answer(self.content, fields)
        first, last = re.findall(r"^bytes=(\d+)-(\d+)$", wanted)[0]
        part = self.content[int(first) : int(last) + 1]
        if not part:
            return Answer(b"", [f"Content-Range: bytes */{self.size}"], "416 Range Not Satisfiable")
        end = int(first) + len(part) - 1
        fields.append(f"Content-Range: bytes {first}-{end}/{self.size}")
        return Answer(part, fields, "206 Partial Content")


@pytest.fixture(scope="module")
def cached(origin: Origin) -> Iterator[Daemon]:
    with serving(configuration(origin, routes=ROUTES)) as daemon:
        yield daemon
        assert daemon.stop() == 0
        daemon.check_clean()


def asked_for(origin: Origin, target: str) -> list[str]:
    """Return the ranges that the origin was asked for, in the order of the object."""
    ranges = [asked.fields.get("range", "all") for asked in origin.asked if asked.target == target]
    return sorted(ranges, key=lambda value: int(re.sub(r"\D.*", "", value[6:]) or -1))


def slices(*numbers: int) -> list[str]:
    return [f"bytes={number * SLICE}-{(number + 1) * SLICE - 1}" for number in numbers]


def check_part(message: Message, film: Film, first: int, last: int) -> None:
    assert message.status == 206
    assert message.get("content-range") == f"bytes {first}-{last}/{SIZE}"
    assert message.body == film.content[first : last + 1]


@pytest.mark.parametrize(
    ("wanted", "first", "last", "needed"),
    [
        ("0-0", 0, 0, [0]),
        (f"{SLICE - 1}-{SLICE - 1}", SLICE - 1, SLICE - 1, [0]),
        (f"{SLICE}-{SLICE}", SLICE, SLICE, [1]),
        (f"{SLICE - 1}-{SLICE}", SLICE - 1, SLICE, [0, 1]),
        (f"{SLICE}-{2 * SLICE - 1}", SLICE, 2 * SLICE - 1, [1]),
        (f"100-{3 * SLICE}", 100, 3 * SLICE, [0, 1, 2, 3]),
        (f"{4 * SLICE}-", 4 * SLICE, SIZE - 1, [4]),
        (f"{SIZE - 1}-{SIZE + 500}", SIZE - 1, SIZE - 1, [4]),
        ("0-", 0, SIZE - 1, [0, 1, 2, 3, 4]),
    ],
)
def test_a_range_costs_the_slices_that_it_touches_once(
    cached: Daemon, origin: Origin, wanted: str, first: int, last: int, needed: list[int]
) -> None:
    film, target = Film(), f"/film/{wanted}"
    origin.on(target, film)
    check_part(cached.ask(target, f"Range: bytes={wanted}"), film, first, last)
    assert asked_for(origin, target) == slices(*needed)
    for message in on_both(cached, target, f"Range: bytes={wanted}"):
        check_part(message, film, first, last)
    assert asked_for(origin, target) == slices(*needed)


@pytest.mark.parametrize("length", [1, 1000, 1001, SLICE + 1000, SIZE, SIZE + 1])
def test_the_end_of_an_object_needs_no_more_than_its_size_and_the_end(
    cached: Daemon, origin: Origin, length: int
) -> None:
    """How long it is only an answer tells: the first slice is asked for that, too."""
    film, target = Film(), f"/film/end/{length}"
    origin.on(target, film)
    first = max(0, SIZE - length)
    check_part(cached.ask(target, f"Range: bytes=-{length}"), film, first, SIZE - 1)
    needed = {0, *range(first // SLICE, 5)}
    assert asked_for(origin, target) == slices(*sorted(needed))


def test_several_ranges_are_one_answer_in_parts(cached: Daemon, origin: Origin) -> None:
    film = Film()
    origin.on("/film/several", film)
    message = cached.ask("/film/several", f"Range: bytes=0-1,{SLICE - 1}-{SLICE},-3")
    assert message.status == 206
    kind = message.get("content-type") or ""
    mark = b"--" + kind.partition("boundary=")[2].encode()
    parts = [part.partition(b"\r\n\r\n") for part in message.body.split(mark)[1:-1]]
    spans = [(0, 2), (SLICE - 1, SLICE + 1), (SIZE - 3, SIZE)]
    assert [content[:-2] for _, _, content in parts] == [film.content[a:b] for a, b in spans]
    for (head, _, _), (start, stop) in zip(parts, spans, strict=True):
        assert f"bytes {start}-{stop - 1}/{SIZE}".encode() in head
    assert asked_for(origin, "/film/several") == slices(0, 1, 4)


def test_all_of_it_is_put_together_of_what_is_here_and_the_rest(
    cached: Daemon, origin: Origin
) -> None:
    film = Film()
    origin.on("/film/all", film)
    cached.ask("/film/all", f"Range: bytes={SLICE}-{2 * SLICE}")
    whole = cached.ask("/film/all")
    assert (whole.status, whole.body) == (200, film.content)
    assert whole.get("content-range") is None
    assert asked_for(origin, "/film/all") == slices(0, 1, 2, 3, 4)
    for message in on_both(cached, "/film/all"):
        assert (message.status, message.body) == (200, film.content)
    assert origin.count("/film/all") == 5


def test_what_a_head_says_is_about_all_of_it(cached: Daemon, origin: Origin) -> None:
    film = Film()
    origin.on("/film/head", film)
    for _ in range(2):
        head = cached.ask("/film/head", method="HEAD")
        assert (head.status, head.get("content-length")) == (200, str(SIZE))
        assert cached.ask("/film/head").body == film.content


def test_conditions_are_about_all_of_it(cached: Daemon, origin: Origin) -> None:
    film, target = Film(), "/film/conditions"
    origin.on(target, film)
    wanted = f"Range: bytes={SLICE - 2}-{SLICE + 1}"
    for _ in range(2):
        check_part(cached.ask(target, wanted, f"If-Range: {film.etag}"), film, SLICE - 2, SLICE + 1)
        whole = cached.ask(target, wanted, 'If-Range: "another"')
        assert (whole.status, whole.body) == (200, film.content)
        weak = cached.ask(target, wanted, f"If-Range: W/{film.etag}")
        assert (weak.status, weak.body) == (200, film.content)
        assert cached.ask(target, f"If-None-Match: {film.etag}").status == 304
    beyond = cached.ask(target, f"Range: bytes={SIZE}-")
    assert (beyond.status, beyond.get("content-range")) == (416, f"bytes */{SIZE}")


def test_who_reads_while_it_changes_is_broken_off_and_the_next_gets_the_new_one(
    cached: Daemon, origin: Origin
) -> None:
    """Never half of one and half of the other."""
    film, target = Film(), "/film/changes"
    origin.on(target, film)
    before = film.content
    cached.ask(target, f"Range: bytes=0-{SLICE}")  # its first two slices are stored
    film.change()
    with cached.connect() as wire:
        wire.get(target)
        head = wire.head()
        assert head.get("etag") == f'"{before[:8].hex()}"'
        with pytest.raises((EOFError, ConnectionError)):
            wire.exactly(SIZE)
        assert before.startswith(wire.held)
    assert cached.ask(target).body == film.content
    for message in on_both(cached, target):
        assert message.body == film.content


def test_a_client_that_leaves_leaves_the_slices_that_it_has_not_come_to(
    cached: Daemon, origin: Origin
) -> None:
    film = Film(400 * SLICE)
    origin.on("/film/long", film)
    with cached.connect() as wire:
        wire.get("/film/long")
        assert wire.head().get("content-length") == str(film.size)
        assert wire.exactly(SLICE) == film.content[:SLICE]
    cached.ask("/film/another")
    asked = origin.count("/film/long")
    assert asked < 400
    with cached.connect() as wire:
        wire.get("/film/long", f"Range: bytes=0-{10 * SLICE - 1}")
        assert wire.message().body == film.content[: 10 * SLICE]
    assert origin.count("/film/long") < 400


def test_many_who_ask_at_once_share_each_slice(cached: Daemon, origin: Origin) -> None:
    film, gate = Film(), origin.gate()

    def answer(asked: Asked) -> Answer:
        said = film(asked)
        said.hold = gate
        return said

    origin.on("/film/many", answer)
    with clients(cached, 24) as wires:
        for wire in wires:
            wire.get("/film/many")
        wait_for(lambda: origin.count("/film/many"), "a request")
        gate.open()
        assert {wire.message().body for wire in wires} == {film.content}
    assert asked_for(origin, "/film/many") == slices(0, 1, 2, 3, 4)


def test_what_knows_no_ranges_is_stored_as_one(cached: Daemon, origin: Origin) -> None:
    film = Film(knows_ranges=False)
    origin.on("/film/whole", film)
    assert cached.ask("/film/whole").body == film.content
    message = cached.ask("/film/whole", f"Range: bytes={SLICE - 1}-{SLICE}")
    check_part(message, film, SLICE - 1, SLICE)
    assert is_hit(message)
    assert origin.count("/film/whole") == 1


def test_a_purge_of_the_url_takes_all_slices(cached: Daemon, origin: Origin) -> None:
    film, target = Film(), "/film/purged"
    origin.on(target, film)
    assert cached.ask(target).body == film.content
    film.change()
    assert cached.ask(target, method="PURGE").status == 200
    for message in on_both(cached, target):
        assert message.body == film.content


def test_slices_are_there_after_a_restart(origin: Origin) -> None:
    film, target = Film(), "/film/kept"
    origin.on(target, film)
    with serving(configuration(origin, routes=ROUTES)) as daemon:
        assert daemon.ask(target).body == film.content
        wait_for(lambda: len(cache_files(daemon)) >= 5, "the slices on the disk")
        assert daemon.stop() == 0
        again = restarted(daemon)
        try:
            assert again.ask(target).body == film.content
            check_part(again.ask(target, "Range: bytes=-2000"), film, SIZE - 2000, SIZE - 1)
            assert origin.count(target) == 5
        finally:
            assert again.stop() == 0
        again.check_clean()
