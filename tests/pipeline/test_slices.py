"""Large objects in slices, over the wire: what is fetched, what is kept, what goes together."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from proxy.cache.disk import DiskStore
from proxy.cache.entry import Entry
from proxy.cache.journal import Journal
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.cache.tiered import Tiered
from proxy.errors import UpstreamError
from proxy.message import Response
from proxy.pipeline.sliced_body import SlicedBody
from proxy.rules.cache_rule import CacheRule
from proxy.rules.ranges import Span
from tests.pipeline.bodies import Pushed, Taken, until
from tests.pipeline.caching import another, answer, asking, cached, later, status_of
from tests.pipeline.upstreams import GET, Client, Server, answering, close

SLICE = 100
SLICED = CacheRule(slice_bytes=SLICE)
CONTENT = bytes(range(250)) + b"ab"  # two slices, and a third of 52 bytes
ABOUT = b"Cache-Control: public, max-age=60\r\n"


class Film:
    """An upstream that knows ranges, of a content that a test may change."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag = b'"1"'
        self.about = ABOUT
        self.asked: list[bytes] = []
        self.waits = False
        self.breaks_at = -1

    async def script(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.take(reader)
            head = server.heads[-1]
            if self.waits:
                await server.go_on.wait()
            match = re.search(rb"\r\nRange: bytes=(\d+)-(\d*)\r\n", head)
            self.asked.append(b"" if match is None else match[1])
            if self.etag and b"If-None-Match: " + self.etag in head:
                writer.write(b"HTTP/1.1 304 Not Modified\r\nETag: " + self.etag + b"\r\n\r\n")
                continue
            about = self.about + (b"ETag: " + self.etag + b"\r\n" if self.etag else b"")
            if match is None:
                writer.write(self.head(b"200 OK", about, self.content))
                continue
            first, size = int(match[1]), len(self.content)
            if first >= size:
                about += b"Content-Range: bytes */%d\r\n" % size
                writer.write(self.head(b"416 No", about, b""))
                continue
            stop = min(int(match[2] or size) + 1, size)
            about += b"Content-Range: bytes %d-%d/%d\r\n" % (first, stop - 1, size)
            said = self.head(b"206 Partial Content", about, self.content[first:stop])
            if first == self.breaks_at:
                writer.write(said[:-10])
                writer.close()
                return
            writer.write(said)

    def head(self, status: bytes, about: bytes, content: bytes) -> bytes:
        return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (
            status,
            about,
            len(content),
            content,
        )


@pytest.fixture
def film(server: Server) -> Film:
    made = Film()
    server.script = made.script
    return made


@pytest.fixture
async def client(server: Server, film: Film) -> AsyncIterator[Client]:
    client = cached(server, SLICED)
    yield client
    await close(client)


def cache_of(client: Client) -> Tiered:
    cache = client.wire.site.cache
    assert cache is not None
    return cache


def keys(client: Client) -> set[bytes]:
    return {entry.key for entry in cache_of(client).memory.entries()}


def entry_of(client: Client, number: int) -> Entry:
    entry = cache_of(client).get(b"http://h/a?b slice:%d/100" % number)
    assert isinstance(entry, Entry)
    return entry


def content_of(out: bytes) -> bytes:
    return out.partition(b"\r\n\r\n")[2]


async def test_a_large_object_is_fetched_slice_by_slice(film: Film, client: Client) -> None:
    out = await client.ask(GET)
    assert out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 252\r\n" in out
    assert b"Content-Range" not in out
    assert content_of(out) == CONTENT
    assert film.asked == [b"0", b"100", b"200"]
    assert keys(client) == {b"http://h/a?b slice:%d/100" % number for number in range(3)}
    out = await client.ask(GET)
    assert content_of(out) == CONTENT
    assert status_of(out).startswith(b"proxyd; hit; ttl=")
    assert len(film.asked) == 3


@pytest.mark.parametrize(
    ("wanted", "first", "stop", "asked"),
    [
        (b"10-19", 10, 20, [b"0"]),
        (b"110-119", 110, 120, [b"100"]),
        (b"90-209", 90, 210, [b"0", b"100", b"200"]),
        (b"200-", 200, 252, [b"200"]),
        (b"-2", 250, 252, [b"0", b"200"]),
        (b"0-99", 0, 100, [b"0"]),
        (b"100-199", 100, 200, [b"100"]),
        (b"251-999999", 251, 252, [b"200"]),
    ],
)
async def test_only_what_is_wanted_is_fetched(
    film: Film, client: Client, wanted: bytes, first: int, stop: int, asked: list[bytes]
) -> None:
    out = await client.ask(asking(b"Range: bytes=" + wanted))
    assert out.startswith(b"HTTP/1.1 206 Partial Content\r\n")
    assert b"Content-Range: bytes %d-%d/252\r\n" % (first, stop - 1) in out
    assert out.count(b"Content-Range") == 1
    assert content_of(out) == CONTENT[first:stop]
    assert film.asked == asked


async def test_several_ranges_go_out_as_parts(film: Film, client: Client) -> None:
    out = await client.ask(asking(b"Range: bytes=0-1,240-241"))
    assert b"Content-Type: multipart/byteranges; boundary=" in out
    assert b"\r\n\r\n\x00\x01\r\n" in out
    assert b"\r\n\r\n" + CONTENT[240:242] + b"\r\n" in out
    assert film.asked == [b"0", b"200"]


async def test_a_range_behind_the_end_is_a_416(film: Film, client: Client) -> None:
    for wanted in (b"252-", b"900-"):
        out = await client.ask(asking(b"Range: bytes=" + wanted))
        assert out.startswith(b"HTTP/1.1 416 ")
        assert b"Content-Range: bytes */252\r\n" in out


async def test_conditions_are_answered_from_the_first_slice(film: Film, client: Client) -> None:
    for _ in range(2):
        out = await client.ask(asking(b'If-None-Match: "1"'))
        assert out.startswith(b"HTTP/1.1 304 ")
    assert film.asked == [b"0"]
    out = await client.ask(asking(b"Range: bytes=0-1", b'If-Range: "2"'))
    assert content_of(out) == CONTENT


async def test_what_one_slice_holds_is_stored_as_usual(film: Film, client: Client) -> None:
    film.content = b"x" * SLICE
    out = await client.ask(GET)
    assert out.startswith(b"HTTP/1.1 200 ")
    assert content_of(out) == film.content
    assert keys(client) == {b"http://h/a?b"}
    assert client.wire.send(asking(b"Range: bytes=1-2")).endswith(b"\r\n\r\nxx")
    assert len(film.asked) == 1


async def test_an_empty_object_is_stored_as_usual(film: Film, client: Client) -> None:
    film.content = b""
    out = await client.ask(GET)
    assert out.startswith(b"HTTP/1.1 200 ")
    assert film.asked == [b"0", b""]


@pytest.mark.parametrize("content", [b"hello", b"x" * 300_000])
async def test_what_knows_no_ranges_is_stored_as_usual(
    server: Server, client: Client, content: bytes
) -> None:
    cache_of(client).memory_object_bytes = 1 << 20
    server.script = answering(answer(ABOUT.strip(), content))
    assert content_of(await client.ask(GET)) == content
    await until(lambda: not cache_of(client).flights)
    assert keys(client) == {b"http://h/a?b"}
    assert content_of(client.wire.send(GET)) == content
    assert len(server.heads) == 1


async def test_what_is_not_there_is_told_and_stored_as_usual(
    server: Server, client: Client
) -> None:
    server.script = answering(answer(ABOUT.strip(), b"none", status=b"404 Not Found"))
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 404 ")
    assert keys(client) == {b"http://h/a?b"}
    assert client.wire.send(GET).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("etag", "about"), [(b"", ABOUT), (b'W/"1"', ABOUT), (b'"1"', b"Cache-Control: private\r\n")]
)
async def test_what_cannot_be_kept_in_slices_goes_past(
    film: Film, client: Client, etag: bytes, about: bytes
) -> None:
    film.etag, film.about = etag, about
    out = await client.ask(GET)
    assert content_of(out) == CONTENT
    assert status_of(out) == b"proxyd; fwd=miss; fwd-status=200"
    assert film.asked == [b"0", b""]
    await client.ask(GET)
    assert film.asked == [b"0", b"", b""]
    assert keys(client) == set()


async def test_a_part_that_is_not_the_slice_goes_past(server: Server, client: Client) -> None:
    part = b'ETag: "1"\r\nContent-Range: bytes 0-4/252'
    server.script = answering(
        answer(ABOUT + part, b"hello", status=b"206 Partial Content"),
        answer(ABOUT.strip(), CONTENT),
    )
    assert content_of(await client.ask(GET)) == CONTENT
    assert b"Range" not in server.heads[1]
    assert keys(client) == set()


async def test_a_stale_slice_is_validated(film: Film, client: Client) -> None:
    await client.ask(GET)
    later(client, 70)
    out = await client.ask(asking(b"Range: bytes=100-109"))
    assert content_of(out) == CONTENT[100:110]
    assert status_of(out).startswith(b"proxyd; fwd=stale; fwd-status=304; ")
    assert film.asked == [b"0", b"100", b"200", b"100"]
    assert entry_of(client, 1).status == 206
    out = await client.ask(asking(b"Range: bytes=100-109"))
    assert status_of(out).startswith(b"proxyd; hit; ")


async def test_a_slice_may_be_stale_while_it_is_refreshed(film: Film, client: Client) -> None:
    film.about = b"Cache-Control: public, max-age=60, stale-while-revalidate=60\r\n"
    await client.ask(asking(b"Range: bytes=0-9"))
    later(client, 70)
    out = await client.ask(asking(b"Range: bytes=0-9"))
    assert status_of(out).startswith(b"proxyd; hit; ttl=-")
    await until(lambda: len(film.asked) == 2 and not cache_of(client).flights)
    out = await client.ask(asking(b"Range: bytes=0-9"))
    assert status_of(out).startswith((b"proxyd; hit; ttl=60", b"proxyd; hit; ttl=59"))


async def test_slices_of_two_versions_never_go_together(film: Film, client: Client) -> None:
    await client.ask(asking(b"Range: bytes=100-109"))
    film.content = CONTENT[::-1]
    film.etag = b'"2"'
    out = await client.ask(GET)  # the second slice is fresh, and of the version before
    assert content_of(out) == film.content
    assert film.asked == [b"100", b"0", b"100", b"200"]
    assert content_of(await client.ask(GET)) == film.content
    assert len(film.asked) == 4


async def test_what_changes_in_the_middle_breaks_off(film: Film, client: Client) -> None:
    await client.ask(asking(b"Range: bytes=0-9"))
    film.content = CONTENT[::-1]
    film.etag = b'"2"'
    out = await client.ask(GET)
    assert content_of(out) == CONTENT[:100]
    assert client.transport.is_closing()
    other = another(client)
    await until(lambda: not cache_of(client).flights)
    other.send(GET)
    await until(lambda: len(client.wire.log.lines) == 3)
    assert content_of(other.transport.take()) == film.content
    other.leave()


@pytest.mark.parametrize("locked", [False, True])
async def test_what_changes_in_the_middle_is_validated_by_who_comes_next(
    film: Film, client: Client, tmp_path: Path, locked: bool
) -> None:
    """At once, and every slice; where that cannot be noted, the one that was old is asked for."""
    cache_of(client).purges = purges = Purges(tmp_path)
    before = purges.current()
    await client.ask(asking(b"Range: bytes=0-9"))
    film.content = CONTENT[::-1]
    film.etag = b'"2"'
    other = Purges(tmp_path)
    with other._file.locked() if locked else nullcontext():
        await client.ask(GET)
    assert client.transport.is_closing()
    assert (purges.current() > before) is not locked
    next_one = another(client)
    next_one.send(GET)
    await until(lambda: len(client.wire.log.lines) == 3)
    if not locked:
        assert content_of(next_one.transport.take()) == film.content
    next_one.leave()
    other.close()
    purges.close()


@pytest.mark.parametrize("at", [0, 100])
async def test_a_slice_that_breaks_off_breaks_off_the_answer(
    film: Film, client: Client, at: int
) -> None:
    film.breaks_at = at
    out = await client.ask(GET)
    assert len(content_of(out)) < 252
    assert client.transport.is_closing()
    await until(lambda: not cache_of(client).flights)
    assert keys(client) == ({b"http://h/a?b slice:0/100"} if at else set())


async def test_an_upstream_that_is_gone_is_a_502(server: Server, client: Client) -> None:
    server.path.unlink()
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 502 ")


async def test_an_upstream_that_goes_away_in_the_middle_ends_the_answer(
    server: Server, film: Film, client: Client
) -> None:
    await client.ask(asking(b"Range: bytes=0-9"))
    server.path.unlink()
    for writer in server.writers:
        writer.close()
    await until(lambda: client.group.connections == 0)
    out = await client.ask(GET)
    assert content_of(out) == CONTENT[:100]
    assert client.transport.is_closing()


async def test_who_asks_for_the_same_slices_meanwhile_shares_them(
    server: Server, film: Film, client: Client
) -> None:
    film.waits = True
    others = [another(client) for _ in range(4)]
    for each in (client, *others):
        each.send(GET)
    await until(lambda: server.heads)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 5)
    assert film.asked == [b"0", b"100", b"200"]
    for each in (client, *others):
        assert content_of(each.transport.take()) == CONTENT
    for other in others:
        other.leave()


async def test_a_client_that_leaves_gives_its_slice_up(
    server: Server, film: Film, client: Client
) -> None:
    film.waits = True
    client.send(GET)
    await until(lambda: server.heads)
    client.leave()
    await client.done()
    await until(lambda: not cache_of(client).flights)
    assert client.wire.log.lines == [(b"/a?b", 499)]
    server.go_on.set()


async def test_a_client_that_leaves_in_the_middle_gives_the_rest_up(
    server: Server, film: Film, client: Client
) -> None:
    await client.ask(asking(b"Range: bytes=0-9"))
    film.waits = True
    client.send(GET)
    await until(lambda: len(server.heads) == 2)
    client.leave()
    await client.done(2)
    await until(lambda: not cache_of(client).flights)
    server.go_on.set()
    await until(lambda: client.group.connections == 0)
    assert keys(client) == {b"http://h/a?b slice:0/100"}


async def test_a_slow_client_is_not_ahead_of_itself(film: Film, client: Client) -> None:
    await client.ask(asking(b"Range: bytes=0-9"))
    client.wire.connection.pause_writing()
    other = another(client)
    other.wire.connection.pause_writing()
    other.wire.connection.resume_writing()
    client.wire.connection.resume_writing()
    client.send(GET)
    client.wire.connection.pause_writing()
    await asyncio.sleep(0.02)
    assert film.asked == [b"0"]
    client.wire.connection.resume_writing()
    assert content_of(await client.done(2)) == CONTENT
    other.leave()


async def test_a_purge_of_the_url_is_one_of_its_slices(
    film: Film, client: Client, tmp_path: Path
) -> None:
    cache_of(client).purges = purges = Purges(tmp_path)
    await client.ask(GET)
    purges.add(Kind.URL, Verdict.HARD, b"http://h/a?b")
    await client.ask(GET)
    assert len(film.asked) == 6
    purges.close()


async def test_only_if_cached_takes_what_is_stored(film: Film, client: Client) -> None:
    wanted = asking(b"Range: bytes=0-9", b"Cache-Control: only-if-cached")
    assert (await client.ask(wanted)).startswith(b"HTTP/1.1 504 ")
    await client.ask(asking(b"Range: bytes=0-9"))
    assert (await client.ask(wanted)).startswith(b"HTTP/1.1 206 ")
    assert film.asked == [b"0"]


async def test_slices_are_on_the_disk_as_well(film: Film, client: Client, tmp_path: Path) -> None:
    cache_of(client).disk = store = DiskStore(tmp_path, Journal(tmp_path))
    await client.ask(GET)
    await store.flush()
    for entry in cache_of(client).memory.entries():
        cache_of(client).memory.remove(entry)
    assert content_of(await client.ask(GET)) == CONTENT
    assert len(film.asked) == 3
    client.leave()
    await store.close()


async def test_many_slices_in_memory_are_no_recursion(film: Film, server: Server) -> None:
    client = cached(server, CacheRule(slice_bytes=1))
    film.content = bytes(range(200)) * 3
    cache_of(client).memory._limit_bytes = 1 << 30
    for _ in range(2):
        assert content_of(await client.ask(GET)) == film.content
    assert len(film.asked) == 600
    await close(client)


async def test_a_head_and_a_post_are_about_all_of_it(film: Film, client: Client) -> None:
    await client.ask(asking(method=b"HEAD"))
    await client.ask(asking(method=b"POST"))
    assert film.asked == [b"", b""]


# ── The content by itself ────────────────────────────────────────────────────────────────────


class Hand:
    """Gives slices when a test says so."""

    slice_bytes = SLICE

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answered: object = None
        self.cancelled = False
        self.changes = 0

    def ask(self, number: int, on_answer: object, *, validated: bool = False) -> "Hand":
        self.asked.append(number)
        self.answered = on_answer
        return self

    def changed(self) -> None:
        self.changes += 1

    def cancel(self) -> None:
        self.cancelled = True

    def give(self, answer: Response | Exception) -> None:
        assert callable(self.answered)
        self.answered(answer)


def slice_of(number: int, body: object = None) -> Response:
    first, stop = number * SLICE, min((number + 1) * SLICE, len(CONTENT))
    place = b"bytes %d-%d/%d" % (first, stop - 1, len(CONTENT))
    fields = [(b"ETag", b'"1"'), (b"Content-Range", place)]
    content = CONTENT[first:stop] if body is None else body
    return Response(206, fields, content)  # type: ignore[arg-type]


async def test_a_slice_that_comes_when_nobody_wants_it_is_let_go() -> None:
    hand, late, taken = Hand(), Pushed(), Taken()
    source = SlicedBody(hand, 0, slice_of(0), 252).source()
    source.start(taken)
    await until(lambda: hand.asked)
    source.cancel()
    assert hand.cancelled
    hand.give(slice_of(1, late))
    assert late.cancelled
    hand.give(UpstreamError("late"))
    assert taken.data == CONTENT[:100]


async def test_a_slice_that_streams_is_paused_and_let_go() -> None:
    hand, first, taken = Hand(), Pushed(100), Taken()
    source = SlicedBody(hand, 0, slice_of(0, first), 252).source([b"--", Span(10, 110)])
    assert source.length == 102
    source.pause()
    source.start(taken)
    source.resume()
    await until(lambda: first.consumer is not None)
    source.pause()
    assert first.paused
    first.to.feed(CONTENT[:20])
    source.resume()
    assert not first.paused
    source.cancel()
    assert first.cancelled
    assert taken.data == b"--" + CONTENT[10:20]
    first.to.feed(CONTENT[20:30])
    first.to.abort(UpstreamError("late"))
    assert not taken.ended


async def test_a_slice_that_is_asked_for_while_the_client_pauses_waits() -> None:
    hand, second, taken = Hand(), Pushed(100), Taken()
    source = SlicedBody(hand, 0, slice_of(0), 252).source([Span(0, 110)])
    source.start(taken)
    await until(lambda: hand.asked)
    source.pause()
    hand.give(slice_of(1, second))
    assert second.paused
    assert second.consumer is not None
    second.to.feed(CONTENT[100:200])
    second.to.finish(None)
    source.resume()
    source.resume()
    await until(lambda: taken.finished)
    assert taken.data == CONTENT[:110]


@pytest.mark.parametrize("how", ["short", "broken", "empty"])
async def test_a_slice_that_is_not_all_there_is_an_end(how: str) -> None:
    hand, first, taken = Hand(), Pushed(100), Taken()
    body = b"" if how == "empty" else first
    source = SlicedBody(hand, 0, slice_of(0, body), 252).source()
    source.start(taken)
    if how == "short":
        first.to.feed(CONTENT[:99])
        first.to.finish(None)
    elif how == "broken":
        first.to.abort(UpstreamError("broke off"))
    assert isinstance(taken.error, UpstreamError)
    source.cancel()


async def test_a_first_slice_of_another_version_is_asked_for_again_in_vain() -> None:
    hand, taken = Hand(), Taken()
    other = slice_of(1)
    other.fields = [(b"ETag", b'"2"'), *other.fields[1:]]
    source = SlicedBody(hand, 0, slice_of(0), 252).source()
    source.start(taken)
    await until(lambda: hand.asked)
    hand.give(slice_of(2))  # nor is it the one that was asked for
    hand.give(other)
    assert isinstance(taken.error, UpstreamError)
    assert (hand.asked, hand.changes) == ([1, 1, 0], 1)
    hand.give(UpstreamError("nobody there"))


async def test_a_first_slice_that_is_not_needed_is_let_go() -> None:
    hand, first, taken = Hand(), Pushed(100), Taken()
    body = SlicedBody(hand, 0, slice_of(0, first), 252)
    source = body.source([Span(200, 252)])
    body.close()
    source.start(taken)
    hand.give(slice_of(2))
    await until(lambda: taken.finished)
    assert first.cancelled
    with pytest.raises(RuntimeError):
        body.source()


async def test_a_body_that_is_not_used_lets_its_slice_go() -> None:
    first = Pushed(100)
    SlicedBody(Hand(), 0, slice_of(0, first), 252).close()
    assert first.cancelled
