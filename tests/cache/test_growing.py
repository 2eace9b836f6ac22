"""One source, many readers: what each gets, who waits for whom, what is kept."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.entry import Entry
from proxy.cache.growing import WORTH_FINISHING_BYTES, Growing
from proxy.errors import ClientGoneError, StoredContentError, UpstreamError
from proxy.message import Fields, Source
from proxy.rules.ranges import Span
from tests.cache.making import entry
from tests.pipeline.bodies import Pushed, Taken


class Kept:
    """What is told at the end."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes | None, Fields | None]] = []

    def __call__(self, content: bytes | None, trailers: Fields | None) -> None:
        self.calls.append((content, trailers))

    @property
    def content(self) -> bytes | None:
        ((content, _),) = self.calls
        return content


class Disk:
    """A Writer whose test says how much of it is written, and when it has room."""

    def __init__(self) -> None:
        self.data = b""
        self.written_bytes = 0
        self.gave_up = False
        self.abandoned = False
        self.released = 0
        self.has_room = True
        self.readable = True
        self.fails = False
        self.drained: Callable[[], None] = lambda: None
        self.reads: list[Pushed] = []
        self.at_commit: Callable[[], None] = lambda: None

    def begin(self, drained: Callable[[], None]) -> "Disk":
        self.drained = drained
        return self

    def write(self, data: bytes) -> bool:
        self.data += data
        return self.has_room

    def read_back(self, span: Span) -> Source:
        if not self.readable:
            raise StoredContentError("gone")
        source = Pushed(span.stop - span.first)
        source.span = span  # type: ignore[attr-defined]
        self.reads.append(source)
        return source

    def give(self) -> None:
        """Push all that was asked for last."""
        source = self.reads[-1]
        span: Span = source.span  # type: ignore[attr-defined]
        source.to.feed(self.data[span.first : span.stop])
        source.to.finish(None)

    async def commit(self, trailers: Fields | None = None) -> Entry | None:
        self.at_commit()
        if self.fails:
            return None
        self.written_bytes = len(self.data)
        return entry()

    def abandon(self) -> None:
        self.abandoned = True

    def release(self) -> None:
        self.released += 1


def growing(source: Pushed, kept: Kept, limit: int = 100) -> Growing:
    return Growing(source, limit, kept)


def on_disk(source: Pushed, kept: Kept, disk: Disk, largest: int = 1000) -> Growing:
    return Growing(source, 10, kept, begin=disk.begin, largest_bytes=largest)


def reading(body: Growing, span: Span | None = None) -> tuple[Source, Taken]:
    reader, taken = body.reader(span), Taken()
    reader.start(taken)
    return reader, taken


def with_one_behind() -> tuple[Growing, Disk, Source, Taken]:
    """Return a body that has come whole, and one who has not read it: only the disk has all."""
    source, disk = Pushed(13), Disk()
    body = on_disk(source, Kept(), disk)
    slow, behind = reading(body)
    _, quick = reading(body)
    body.start()
    slow.pause()
    source.to.feed(b"abcdefgh")
    disk.written_bytes = 8
    source.to.feed(b"ijklm")
    source.to.finish(None)
    assert quick.finished
    return body, disk, slow, behind


def test_who_comes_later_gets_all_of_it() -> None:
    source, kept = Pushed(6), Kept()
    body = growing(source, kept)
    _, first = reading(body)
    body.start()
    source.to.feed(b"abc")
    _, second = reading(body)
    assert second.data == b"abc"
    source.to.feed(b"def")
    _, third = reading(body)
    trailers = Fields([(b"X", b"1")])
    source.to.finish(trailers)
    _, fourth = reading(body)
    for taken in (first, second, third, fourth):
        assert taken.data == b"abcdef"
        assert taken.finished
        assert taken.trailers is trailers
    assert kept.calls == [(b"abcdef", trailers)]


def test_content_without_a_byte_is_content() -> None:
    source, kept = Pushed(0), Kept()
    body = growing(source, kept)
    body.start()
    source.to.finish(None)
    _, taken = reading(body)
    assert taken.finished
    assert kept.content == b""


def test_a_reader_that_pauses_falls_behind_and_holds_nobody_back() -> None:
    source, kept = Pushed(9), Kept()
    body = growing(source, kept)
    slow, behind = reading(body)
    _, fast = reading(body)
    body.start()
    source.to.feed(b"abc")
    slow.pause()
    source.to.feed(b"def")
    source.to.feed(b"ghi")
    assert not source.paused
    assert (behind.data, fast.data) == (b"abc", b"abcdefghi")
    source.to.finish(None)
    assert fast.finished
    assert not behind.ended
    slow.resume()
    assert behind.data == b"abcdefghi"
    assert behind.finished


def test_a_reader_that_pauses_while_it_catches_up_goes_on_where_it_was() -> None:
    source, kept = Pushed(9), Kept()
    body = growing(source, kept)
    body.start()
    source.to.feed(b"abc")
    source.to.feed(b"def")
    reader, taken = body.reader(), Taken()
    taken.then = reader.pause
    reader.start(taken)
    assert taken.data == b"abc"
    source.to.feed(b"ghi")
    taken.then = lambda: None
    reader.resume()
    assert taken.data == b"abcdefghi"


def test_a_reader_that_has_paused_before_it_starts_gets_nothing_yet() -> None:
    source, kept = Pushed(3), Kept()
    body = growing(source, kept)
    reader, taken = body.reader(), Taken()
    reader.pause()
    reader.start(taken)
    body.start()
    source.to.feed(b"abc")
    assert len(taken.data) == 0
    reader.resume()
    assert taken.data == b"abc"


def test_a_reader_that_pauses_and_misses_nothing_stays_live() -> None:
    source, kept = Pushed(6), Kept()
    body = growing(source, kept)
    reader, taken = reading(body)
    body.start()
    reader.pause()
    reader.resume()
    source.to.feed(b"abc")
    assert taken.data == b"abc"


def test_an_end_reaches_who_has_all_although_it_pauses() -> None:
    source, kept = Pushed(3), Kept()
    body = growing(source, kept)
    reader, taken = reading(body)
    body.start()
    source.to.feed(b"abc")
    reader.pause()
    source.to.finish(None)
    assert taken.finished


@pytest.mark.parametrize("first", [0, 2, 5])
def test_a_span_is_cut_out_of_what_comes(first: int) -> None:
    source, kept = Pushed(9), Kept()
    body = growing(source, kept)
    reader, early = reading(body, Span(first, 7))
    assert reader.length == 7 - first
    body.start()
    for piece in (b"abc", b"def"):
        source.to.feed(piece)
    _, late = reading(body, Span(first, 7))
    source.to.feed(b"ghi")
    for taken in (early, late):
        assert taken.data == b"abcdefg"[first:]
        assert taken.finished
    assert not source.cancelled  # the rest is for the store
    source.to.finish(None)
    assert kept.content == b"abcdefghi"


def test_who_has_its_span_leaves_what_nobody_keeps() -> None:
    source, kept = Pushed(900), Kept()
    body = growing(source, kept)
    assert not body.keeping
    _, taken = reading(body, Span(0, 2))
    body.start()
    source.to.feed(b"abc")
    assert taken.data == b"ab"
    assert taken.finished
    assert source.cancelled


def test_a_break_reaches_all_who_read() -> None:
    source, kept = Pushed(9), Kept()
    body = growing(source, kept)
    _, live = reading(body)
    slow, behind = reading(body)
    body.start()
    source.to.feed(b"abc")
    slow.pause()
    source.to.feed(b"def")
    error = UpstreamError("broke off")
    source.to.abort(error)
    assert live.error is error
    assert behind.error is error
    _, late = reading(body)
    assert late.error is error
    assert kept.content is None
    assert body.beginning == b"abcdef"
    assert not body.may_be_joined()
    slow.resume()  # nothing comes of it
    assert behind.data == b"abc"


def test_who_has_not_begun_to_read_learns_of_a_break_then() -> None:
    source, kept = Pushed(9), Kept()
    body = growing(source, kept)
    reader, taken = body.reader(), Taken()
    body.start()
    source.to.abort(UpstreamError("broke off"))
    reader.start(taken)
    assert isinstance(taken.error, UpstreamError)


def test_what_is_too_large_for_memory_and_has_no_disk_goes_through() -> None:
    source, kept = Pushed(), Kept()
    body = growing(source, kept, 5)
    _, taken = reading(body)
    body.start()
    for _ in range(3):
        source.to.feed(b"abc")
    assert not body.may_be_joined()
    source.to.finish(None)
    assert taken.data == b"abcabcabc"
    assert taken.finished
    assert kept.content is None
    assert body.beginning == b""


def test_what_nobody_keeps_waits_for_who_pauses() -> None:
    source, kept = Pushed(900), Kept()
    body = growing(source, kept, 5)
    slow, behind = reading(body)
    _, fast = reading(body)
    body.start()
    source.to.feed(b"abc")
    slow.pause()
    assert source.paused
    source.to.feed(b"def")  # was under way
    assert (behind.data, fast.data) == (b"abc", b"abcdef")
    slow.resume()
    assert behind.data == b"abcdef"
    assert not source.paused
    slow.pause()
    slow.cancel()
    assert not source.paused
    source.to.feed(b"ghi")
    source.to.finish(None)
    assert fast.data == b"abcdefghi"


def test_what_all_have_left_is_given_up() -> None:
    source, kept = Pushed(10**9), Kept()
    body = Growing(source, 10**9, kept)
    reader, _ = reading(body)
    body.start()
    source.to.feed(b"abc")
    reader.cancel()
    reader.cancel()
    assert source.cancelled
    assert kept.content is None
    assert isinstance(body.error, ClientGoneError)
    body.cancel()


@pytest.mark.parametrize(
    ("length", "come", "worth"),
    [
        (WORTH_FINISHING_BYTES + 1, 1, True),
        (WORTH_FINISHING_BYTES + 2, 1, False),
        (10 * WORTH_FINISHING_BYTES, 5 * WORTH_FINISHING_BYTES, True),
        (10 * WORTH_FINISHING_BYTES, 5 * WORTH_FINISHING_BYTES - 1, False),
        (None, 100, False),
    ],
)
def test_what_is_mostly_here_is_worth_finishing(length: int | None, come: int, worth: bool) -> None:
    source, kept = Pushed(length), Kept()
    body = Growing(source, 10**9, kept)
    reader, _ = reading(body)
    body.start()
    source.to.feed(b"x" * come)
    reader.cancel()
    assert source.cancelled is not worth


def test_what_nobody_reads_is_kept_all_the_same() -> None:
    source, kept = Pushed(), Kept()
    body = growing(source, kept)
    body.start()
    source.to.feed(b"abc")
    source.to.finish(None)
    assert kept.content == b"abc"


def test_what_nobody_reads_nor_keeps_is_not_begun() -> None:
    source, kept = Pushed(900), Kept()
    body = growing(source, kept, 5)
    body.start()
    assert source.cancelled
    assert source.consumer is None


def test_who_leaves_before_it_begins_takes_it_from_nobody_else() -> None:
    source, kept = Pushed(10**9), Kept()
    body = Growing(source, 10**9, kept)
    gone, _ = reading(body)
    gone.cancel()
    _, taken = reading(body)
    body.start()
    source.to.feed(b"abc")
    assert taken.data == b"abc"


def test_it_is_not_begun_when_all_left_before() -> None:
    source, kept = Pushed(10**9), Kept()
    body = Growing(source, 10**9, kept)
    gone, _ = reading(body)
    gone.cancel()
    body.start()
    assert source.cancelled


# ── With a disk ──────────────────────────────────────────────────────────────────────────────


async def test_what_is_on_the_disk_is_read_from_there() -> None:
    source, kept, disk = Pushed(16), Kept(), Disk()
    body = on_disk(source, kept, disk)
    body.start()
    source.to.feed(b"abcdefgh")
    disk.written_bytes = 8
    source.to.feed(b"ijkl")
    late, taken = reading(body)
    assert len(taken.data) == 0
    source.to.feed(b"mn")
    disk.give()
    assert taken.data == b"abcdefghijklmn"
    source.to.feed(b"op")
    source.to.finish(None)
    assert taken.data == b"abcdefghijklmnop"
    assert taken.finished
    assert kept.content is None
    assert disk.data == b"abcdefghijklmnop"
    assert late.length == 16
    assert body.to_commit() is disk
    assert await body.commit() is not None


def test_content_that_outgrows_memory_goes_on_on_the_disk() -> None:
    source, kept, disk = Pushed(), Kept(), Disk()
    body = on_disk(source, kept, disk)
    body.start()
    for _ in range(4):
        source.to.feed(b"abcdef")
    assert disk.data == b"abcdef" * 4
    source.to.finish(None)
    assert body.keeping
    assert kept.calls == [(None, None)]


def test_a_disk_that_takes_no_more_holds_the_source_back() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    disk.has_room = False
    body.start()
    source.to.feed(b"abc")
    assert source.paused
    disk.drained()
    assert not source.paused


def test_what_all_who_read_pause_waits_for_one_of_them() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    one, _ = reading(body)
    other, taken = reading(body)
    body.start()
    source.to.feed(b"abc")
    one.pause()
    assert not source.paused
    other.pause()
    assert source.paused
    reading(body)
    source.to.feed(b"def")  # as somebody reads again
    assert not source.paused
    other.resume()
    assert taken.data == b"abcdef"


def test_a_reader_pauses_the_disk_that_it_reads_from() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    body.start()
    source.to.feed(b"abcdefgh")
    disk.written_bytes = 8
    source.to.feed(b"i")
    reader, taken = reading(body)
    reader.pause()
    assert disk.reads[-1].paused
    reader.resume()
    assert not disk.reads[-1].paused
    reader.pause()
    disk.give()  # was under way
    assert taken.data == b"abcdefgh"
    reader.resume()
    assert taken.data == b"abcdefghi"


def test_a_reader_that_pauses_at_once_pauses_the_disk() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    body.start()
    source.to.feed(b"abcdefgh")
    disk.written_bytes = 8
    source.to.feed(b"i")
    reader = body.reader()
    reader.pause()
    reader.start(Taken())
    assert disk.reads[-1].paused
    reader.cancel()
    assert disk.reads[-1].cancelled


def test_a_span_on_the_disk_is_read_from_where_it_begins() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    body.start()
    source.to.feed(b"abcdefgh")
    disk.written_bytes = 8
    source.to.feed(b"i")
    _, taken = reading(body, Span(2, 4))
    disk.reads[-1].to.feed(b"cdefgh")
    assert taken.data == b"cd"
    assert taken.finished
    assert disk.reads[-1].cancelled


def test_what_the_disk_has_lost_is_an_end() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    body.start()
    source.to.feed(b"abcdefgh")
    disk.written_bytes = 8
    source.to.feed(b"i")
    disk.readable = False
    _, taken = reading(body)
    assert isinstance(taken.error, StoredContentError)


def test_a_disk_that_lies_breaks_off_who_reads_from_it() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    body.start()
    source.to.feed(b"abcdefgh")
    disk.written_bytes = 8
    source.to.feed(b"i")
    reader, taken = reading(body)
    error = StoredContentError("flipped")
    disk.reads[-1].to.abort(error)
    assert taken.error is error
    reader.cancel()
    gone, _ = reading(body)
    gone.cancel()
    disk.reads[-1].to.abort(error)


def test_a_disk_that_gives_up_stays_for_who_still_reads_from_it() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    _, live = reading(body)
    slow, behind = reading(body)
    body.start()
    source.to.feed(b"abc")
    slow.pause()
    disk.written_bytes = 6
    source.to.feed(b"def")
    source.to.feed(b"ghi")
    disk.gave_up = True
    assert not body.may_be_joined()
    source.to.feed(b"jkl")
    assert source.paused
    assert not disk.abandoned
    slow.resume()
    disk.give()
    assert behind.data == live.data == b"abcdefghijkl"
    assert disk.abandoned
    assert not source.paused
    source.to.feed(b"mno")
    source.to.finish(None)
    assert behind.data == live.data == b"abcdefghijklmno"
    assert live.finished
    assert behind.finished
    assert body.to_commit() is None


async def test_past_the_largest_the_disk_stays_for_who_still_reads_from_it() -> None:
    source, kept, disk = Pushed(), Kept(), Disk()
    body = on_disk(source, kept, disk, largest=20)
    slow, behind = reading(body)
    _, fast = reading(body)
    body.start()
    source.to.feed(b"abc")
    slow.pause()
    source.to.feed(b"defghijkl")
    disk.written_bytes = 12
    source.to.feed(b"mnopqrst")
    source.to.feed(b"u")
    assert not body.may_be_joined()
    assert not disk.abandoned
    assert source.paused
    slow.resume()
    disk.give()
    assert behind.data == fast.data == b"abcdefghijklmnopqrstu"
    assert not source.paused
    assert disk.abandoned
    source.to.feed(b"v")
    source.to.finish(None)
    assert behind.finished
    assert await body.commit() is None


def test_what_is_larger_than_the_largest_never_reaches_the_disk() -> None:
    source, kept, disk = Pushed(2000), Kept(), Disk()
    body = on_disk(source, kept, disk)
    assert not body.keeping
    assert body.writer is None


def test_a_break_abandons_the_disk() -> None:
    source, kept, disk = Pushed(900), Kept(), Disk()
    body = on_disk(source, kept, disk)
    reading(body)
    body.start()
    source.to.feed(b"abc")
    source.to.abort(UpstreamError("broke off"))
    assert disk.abandoned
    assert body.beginning == b""


async def test_who_needs_the_disk_while_it_is_named_waits_for_that() -> None:
    source, kept, disk = Pushed(13), Kept(), Disk()
    body = on_disk(source, kept, disk)
    slow, behind = reading(body)
    body.start()
    source.to.feed(b"abc")
    slow.pause()
    source.to.feed(b"defgh")
    disk.written_bytes = 8
    source.to.feed(b"ijklm")
    source.to.finish(None)

    def meanwhile() -> None:
        slow.resume()
        assert not disk.reads

    disk.at_commit = meanwhile
    await body.commit()
    disk.give()
    assert behind.data == b"abcdefghijklm"
    assert behind.finished
    assert disk.released


async def test_what_cannot_be_named_stays_for_who_still_reads_from_it() -> None:
    body, disk, slow, behind = with_one_behind()
    disk.fails = True
    assert await body.commit() is None
    assert not disk.abandoned
    slow.resume()
    disk.give()
    assert behind.data == b"abcdefghijklm"
    assert behind.finished
    assert disk.abandoned


async def test_the_disk_is_not_let_go_while_somebody_reads_from_it() -> None:
    body, disk, slow, behind = with_one_behind()
    await body.commit()
    assert not disk.released
    slow.resume()
    disk.give()
    assert behind.data == b"abcdefghijklm"
    assert disk.released


async def test_the_disk_is_let_go_at_once_when_nobody_reads() -> None:
    source, disk = Pushed(13), Disk()
    body = on_disk(source, Kept(), disk)
    body.start()
    source.to.feed(b"abcdefghijklm")
    source.to.finish(None)
    assert not disk.released
    await body.commit()
    assert disk.released


class Several:
    """Readers by number, and what is done with them."""

    def __init__(self, body: Growing) -> None:
        self.body = body
        self.readers: dict[int, tuple[Source, Taken]] = {}

    def do(self, number: int, doing: str) -> None:
        if number not in self.readers:
            self.readers[number] = reading(self.body)
        reader = self.readers[number][0]
        if doing == "pause":
            reader.pause()
        elif doing == "resume":
            reader.resume()
        elif doing == "cancel":
            reader.cancel()
            del self.readers[number]


@given(
    doings=st.lists(
        st.tuples(
            st.binary(max_size=3),
            st.integers(0, 3),
            st.sampled_from(["join", "pause", "resume", "cancel"]),
        ),
        max_size=40,
    )
)
def test_whatever_readers_do_each_gets_all_of_it(
    doings: list[tuple[bytes, int, str]],
) -> None:
    source, kept = Pushed(), Kept()
    body = growing(source, kept, 10**6)
    several = Several(body)
    _, anchor = reading(body)
    body.start()
    for piece, number, doing in doings:
        if piece:
            source.to.feed(piece)
        several.do(number, doing)
    source.to.finish(None)
    content = b"".join(piece for piece, _, _ in doings)
    for reader, taken in several.readers.values():
        if not taken.finished:
            reader.resume()
        assert taken.data == content
        assert taken.finished
    assert anchor.data == kept.content == content
