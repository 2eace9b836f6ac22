"""Asking whether stored answers still hold. RFC 9111 §3.2, §4.3, RFC 9110 §13."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields
from proxy.rules.conditional import Outcome
from proxy.rules.dates import format_date
from proxy.rules.validation import (
    MAX_TAGS,
    MAX_TAGS_BYTES,
    HeadOutcome,
    conditional_fields,
    evaluate_stored,
    head_outcome,
    select_validated,
    updated_fields,
)

MODIFIED = 784_111_777
NOW = MODIFIED + 1000
SAME = format_date(MODIFIED)
EARLIER = format_date(MODIFIED - 1)
LATER = format_date(MODIFIED + 1)
LAST_MODIFIED = (b"Last-Modified", SAME)
DATED = (b"Date", LATER)
DATED_AT_ONCE = (b"Date", SAME)


class Stored:
    """One stored answer, received 500 seconds after its last change."""

    def __init__(
        self,
        *lines: FieldLine,
        status: int = 200,
        born_at: float = 0.0,
        size_bytes: int = 10,
        complete: bool = True,
    ) -> None:
        self.status = status
        self.fields = Fields(lines)
        self.etag = self.fields.get(b"etag")
        self.last_modified = self.fields.get(b"last-modified")
        self.born_at = born_at
        self.response_at = MODIFIED + 500.5
        self.size_bytes = size_bytes
        self.complete = complete


def tagged(etag: bytes, *lines: FieldLine, born_at: float = 0.0) -> Stored:
    return Stored((b"ETag", etag), *lines, born_at=born_at)


@pytest.mark.parametrize(
    ("entries", "lines"),
    [
        # §4.3.1: the tag MUST, the date of a single answer SHOULD be sent
        ([tagged(b'"a"')], [(b"If-None-Match", b'"a"')]),
        ([tagged(b'W/"a"')], [(b"If-None-Match", b'W/"a"')]),
        ([Stored(LAST_MODIFIED)], [(b"If-Modified-Since", SAME)]),
        (
            [tagged(b'"a"', LAST_MODIFIED)],
            [(b"If-None-Match", b'"a"'), (b"If-Modified-Since", SAME)],
        ),
        # several stored answers: all tags, no date
        (
            [tagged(b'"a"', LAST_MODIFIED), tagged(b'W/"b"', LAST_MODIFIED)],
            [(b"If-None-Match", b'"a", W/"b"')],
        ),
        ([tagged(b'"a"'), tagged(b'"a"')], [(b"If-None-Match", b'"a"')]),
        ([tagged(b'"a"'), Stored()], [(b"If-None-Match", b'"a"')]),
        ([Stored(LAST_MODIFIED), Stored(LAST_MODIFIED)], []),
        # nothing to ask with
        ([Stored()], []),
        ([], []),
        # what is malformed is not sent on: RFC 9110 §2.2
        ([tagged(b"a")], []),
        ([tagged(b'"a", "b"')], []),
        ([Stored((b"Last-Modified", b"yesterday"))], []),
        ([tagged(b"a", LAST_MODIFIED)], [(b"If-Modified-Since", SAME)]),
        # §4.3.2: nothing of what is partial
        ([Stored((b"ETag", b'"a"'), LAST_MODIFIED, complete=False)], []),
        # RFC 9110 §13.2.1: preconditions speak of successful answers
        ([Stored((b"ETag", b'"a"'), status=404)], []),
        (
            [tagged(b'"a"', LAST_MODIFIED), Stored((b"ETag", b'"b"'), status=404)],
            [(b"If-None-Match", b'"a"'), (b"If-Modified-Since", SAME)],
        ),
        ([Stored((b"ETag", b'"a"'), status=203)], [(b"If-None-Match", b'"a"')]),
    ],
)
def test_what_is_asked_upstream(entries: list[Stored], lines: list[FieldLine]) -> None:
    assert conditional_fields(entries) == lines


def test_no_more_tags_are_asked_about_than_fit() -> None:
    many = [tagged(b'"%d"' % number) for number in range(MAX_TAGS + 1)]
    [(_, value)] = conditional_fields(many)
    assert value.count(b",") == MAX_TAGS - 1
    assert value.startswith(b'"0", "1"')
    long = b'"' + b"x" * (MAX_TAGS_BYTES - 10) + b'"'
    [(_, value)] = conditional_fields([tagged(long), tagged(b'"' + b"y" * 20 + b'"')])
    assert value == long


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        # §4.3.2: If-None-Match, compared weakly (RFC 9110 §13.1.2)
        ([(b"If-None-Match", b'"a"')], Outcome.NOT_MODIFIED),
        ([(b"If-None-Match", b'W/"a"')], Outcome.NOT_MODIFIED),
        ([(b"If-None-Match", b'"x"'), (b"If-None-Match", b'"a"')], Outcome.NOT_MODIFIED),
        ([(b"If-None-Match", b"*")], Outcome.NOT_MODIFIED),
        ([(b"If-None-Match", b'"x"')], Outcome.PROCEED),
        ([(b"If-None-Match", b"a")], Outcome.PROCEED),
        # which takes precedence over If-Modified-Since
        ([(b"If-None-Match", b'"x"'), (b"If-Modified-Since", SAME)], Outcome.PROCEED),
        ([(b"If-None-Match", b'"a"'), (b"If-Modified-Since", EARLIER)], Outcome.NOT_MODIFIED),
        ([(b"If-Modified-Since", SAME)], Outcome.NOT_MODIFIED),
        ([(b"If-Modified-Since", LATER)], Outcome.NOT_MODIFIED),
        ([(b"If-Modified-Since", EARLIER)], Outcome.PROCEED),
        ([(b"If-Modified-Since", b"Sunday, 06-Nov-94 08:49:37 GMT")], Outcome.NOT_MODIFIED),
        ([(b"If-Modified-Since", b"Sun Nov  6 08:49:36 1994")], Outcome.PROCEED),
        # RFC 9110 §13.1.3: not a date, more than one
        ([(b"If-Modified-Since", b"now")], Outcome.PROCEED),
        ([(b"If-Modified-Since", SAME), (b"If-Modified-Since", SAME)], Outcome.PROCEED),
        # not applicable to a cache
        ([(b"If-Match", b'"x"')], Outcome.PROCEED),
        ([(b"If-Unmodified-Since", EARLIER)], Outcome.PROCEED),
        ([(b"If-Match", b'"x"'), (b"If-None-Match", b'"a"')], Outcome.NOT_MODIFIED),
        ([], Outcome.PROCEED),
    ],
)
def test_a_clients_conditions_against_what_is_stored(
    lines: list[FieldLine], outcome: Outcome
) -> None:
    entry = tagged(b'"a"', LAST_MODIFIED)
    assert evaluate_stored(Fields(lines), entry, NOW) is outcome


def test_what_a_client_sends_back_to_the_byte_is_what_is_stored() -> None:
    asked = Fields([(b"If-None-Match", b"no-quotes")])
    assert evaluate_stored(asked, tagged(b"no-quotes"), NOW) is Outcome.NOT_MODIFIED
    assert evaluate_stored(asked, tagged(b"others"), NOW) is Outcome.PROCEED


@pytest.mark.parametrize("status", [200, 206])
def test_conditions_are_evaluated_for_200_and_206(status: int) -> None:
    entry = Stored((b"ETag", b'"a"'), status=status)
    asked = Fields([(b"If-None-Match", b'"a"')])
    assert evaluate_stored(asked, entry, NOW) is Outcome.NOT_MODIFIED


@pytest.mark.parametrize("status", [203, 301, 404, 410, 500])
def test_conditions_are_not_evaluated_for_other_statuses(status: int) -> None:
    entry = Stored((b"ETag", b'"a"'), status=status)
    for name, value in [(b"If-None-Match", b'"a"'), (b"If-Modified-Since", format_date(NOW))]:
        assert evaluate_stored(Fields([(name, value)]), entry, NOW) is Outcome.PROCEED


@pytest.mark.parametrize(
    ("lines", "modified_at"),
    [
        # §4.3.2: Last-Modified, else Date, else the time of receipt
        ((LAST_MODIFIED, DATED), MODIFIED),
        ((DATED,), MODIFIED + 1),
        (((b"Last-Modified", b"?"), DATED), MODIFIED + 1),
        (((b"Date", b"?"),), MODIFIED + 500),
        ((), MODIFIED + 500),
    ],
)
def test_how_old_an_answer_without_last_modified_is(
    lines: tuple[FieldLine, ...], modified_at: int
) -> None:
    entry = Stored(*lines)
    for since, outcome in [
        (modified_at, Outcome.NOT_MODIFIED),
        (modified_at - 1, Outcome.PROCEED),
    ]:
        asked = Fields([(b"If-Modified-Since", format_date(since))])
        assert evaluate_stored(asked, entry, NOW) is outcome


A = tagged(b'"a"', LAST_MODIFIED, DATED, born_at=1)
A_NEWER = tagged(b'"a"', (b"Last-Modified", EARLIER), DATED, born_at=2)
B = tagged(b'"b"', LAST_MODIFIED, DATED, born_at=3)
WEAK = tagged(b'W/"a"', LAST_MODIFIED, DATED, born_at=4)
DATE_ONLY = Stored(LAST_MODIFIED, DATED, born_at=5)
WEAK_DATE = Stored(LAST_MODIFIED, DATED_AT_ONCE, born_at=6)
BARE = Stored(born_at=7)
ALL = [A, A_NEWER, B, WEAK, DATE_ONLY, WEAK_DATE, BARE]

STRONG_DATE = [LAST_MODIFIED, DATED]
WEAK_DATED = [LAST_MODIFIED]


@pytest.mark.parametrize(
    ("lines", "entries", "selected"),
    [
        # §4.3.4, first: strong validators select every answer that has one of them
        ([(b"ETag", b'"a"')], ALL, [A, A_NEWER]),
        ([(b"ETag", b'"a"')], [B, WEAK, BARE], []),
        ([(b"ETag", b'"x"')], [A], []),
        ([(b"ETag", b'"x"')], [BARE], []),
        (STRONG_DATE, ALL, [A, B, WEAK, DATE_ONLY]),
        (STRONG_DATE, [WEAK_DATE], []),
        ([(b"ETag", b'"b"'), *STRONG_DATE], ALL, [B, DATE_ONLY]),
        ([(b"ETag", b'W/"a"'), *STRONG_DATE], ALL, [A, WEAK, DATE_ONLY]),
        # second: weak ones select the most recent
        ([(b"ETag", b'W/"a"')], ALL, [WEAK]),
        ([(b"ETag", b'W/"a"')], [A, A_NEWER, B], [A_NEWER]),
        ([(b"ETag", b'W/"a"'), *WEAK_DATED], [A, DATE_ONLY, BARE], [DATE_ONLY]),
        ([(b"ETag", b'W/"x"')], ALL, []),
        ([(b"ETag", b'W/"x"'), *WEAK_DATED], [A], []),
        (WEAK_DATED, ALL, [WEAK_DATE]),
        (WEAK_DATED, [BARE], []),
        ([LAST_MODIFIED, DATED_AT_ONCE], [WEAK_DATE], [WEAK_DATE]),
        # third: none at all selects the only one there is
        ([], [BARE], [BARE]),
        ([], [BARE, A], []),
        ([], [], []),
        # and the only one that was asked about (RFC 9110 §15.4.5)
        ([], [DATE_ONLY], [DATE_ONLY]),
        ([(b"ETag", b"malformed")], [A], [A]),
    ],
)
def test_which_stored_answers_a_304_updates(
    lines: list[FieldLine], entries: list[Stored], selected: list[Stored]
) -> None:
    assert select_validated(Fields(lines), entries, NOW) == selected


ETAGS = st.sampled_from([None, b'"a"', b'"b"', b'W/"a"', b'W/"b"'])
DATES = st.sampled_from([None, EARLIER, SAME])


@st.composite
def answers(draw: st.DrawFn) -> list[FieldLine]:
    lines: list[FieldLine] = []
    etag, modified = draw(ETAGS), draw(DATES)
    if etag is not None:
        lines.append((b"ETag", etag))
    if modified is not None:
        lines.append((b"Last-Modified", modified))
    if draw(st.booleans()):
        lines.append(draw(st.sampled_from([DATED, DATED_AT_ONCE])))
    return lines


@given(answers(), st.lists(answers(), min_size=2, max_size=5))
def test_a_304_never_updates_what_has_another_tag(
    new: list[FieldLine], held: list[list[FieldLine]]
) -> None:
    etag = Fields(new).get(b"etag")
    for entry in select_validated(Fields(new), [Stored(*lines) for lines in held], NOW):
        if etag is not None and entry.etag is not None:
            assert entry.etag.removeprefix(b"W/") == etag.removeprefix(b"W/")


@pytest.mark.parametrize(
    ("stored", "fresh", "updated"),
    [
        # §3.2: added, and replacing what is there, in any spelling and however many lines
        ([(b"A", b"1")], [(b"B", b"2")], [(b"A", b"1"), (b"B", b"2")]),
        ([(b"A", b"1"), (b"B", b"1")], [(b"a", b"2")], [(b"B", b"1"), (b"a", b"2")]),
        ([(b"A", b"1"), (b"a", b"2")], [(b"A", b"3")], [(b"A", b"3")]),
        ([(b"A", b"1")], [(b"A", b"2"), (b"A", b"3")], [(b"A", b"2"), (b"A", b"3")]),
        ([(b"A", b"1")], [], [(b"A", b"1")]),
        # but Content-Length and Content-Range
        ([(b"Content-Length", b"10")], [(b"Content-Length", b"0")], [(b"Content-Length", b"10")]),
        ([], [(b"Content-Length", b"0"), (b"Content-Range", b"bytes */1")], []),
        # "the Content-* prefix is not a signal that a header field is omitted"
        ([(b"Content-Type", b"a/b")], [(b"Content-Type", b"c/d")], [(b"Content-Type", b"c/d")]),
        ([(b"Content-Encoding", b"x")], [(b"Content-Encoding", b"y")],
         [(b"Content-Encoding", b"y")]),
        ([(b"Content-Foo", b"x")], [(b"Content-Foo", b"y")], [(b"Content-Foo", b"y")]),
        ([(b"ETag", b'W/"a"')], [(b"ETag", b'"a"')], [(b"ETag", b'"a"')]),
        # §4.2.3: the age starts anew with the validation
        ([(b"Age", b"900"), (b"A", b"1")], [], [(b"A", b"1")]),
        ([(b"Age", b"900")], [(b"Age", b"3")], [(b"Age", b"3")]),
    ],
)  # fmt: skip
def test_updating_stored_fields(
    stored: list[FieldLine], fresh: list[FieldLine], updated: list[FieldLine]
) -> None:
    assert updated_fields(Fields(stored), Fields(fresh)) == updated


NAMES = st.sampled_from([b"A", b"a", b"Content-Length", b"ETag", b"age", b"Vary"])
LINES = st.lists(st.tuples(NAMES, st.sampled_from([b"1", b"2"])), max_size=8)


@given(LINES, LINES)
def test_a_field_comes_from_one_of_the_two_messages_only(
    stored: list[FieldLine], fresh: list[FieldLine]
) -> None:
    old, new = Fields(stored), Fields(fresh)
    updated = Fields(updated_fields(old, new))
    for name in {name.lower() for name, _ in stored + fresh} - {b"age", b"content-length"}:
        assert updated.get(name) == (new.get(name) if name in new else old.get(name))
    assert updated.get(b"content-length") == old.get(b"content-length")


@pytest.mark.parametrize(
    ("entry", "status", "lines", "outcome"),
    [
        # §4.3.5: matching values for any received validator, and the length
        (A, 200, [(b"ETag", b'"a"')], HeadOutcome.UPDATE),
        (A, 200, [(b"ETag", b'"a"'), LAST_MODIFIED], HeadOutcome.UPDATE),
        (A, 200, [(b"ETag", b'"a"'), (b"Content-Length", b"10")], HeadOutcome.UPDATE),
        (A, 200, [], HeadOutcome.UPDATE),
        (BARE, 200, [(b"Content-Length", b"10")], HeadOutcome.UPDATE),
        (A, 200, [(b"ETag", b'"b"'), LAST_MODIFIED], HeadOutcome.INVALIDATE),
        (A, 200, [(b"ETag", b'W/"a"')], HeadOutcome.INVALIDATE),
        (A, 200, [(b"ETag", b'"a"'), (b"Last-Modified", EARLIER)], HeadOutcome.INVALIDATE),
        (BARE, 200, [(b"ETag", b'"a"')], HeadOutcome.INVALIDATE),
        (BARE, 200, [LAST_MODIFIED], HeadOutcome.INVALIDATE),
        (A, 200, [(b"ETag", b'"a"'), (b"Content-Length", b"11")], HeadOutcome.INVALIDATE),
        # what is not complete has no length to compare
        (Stored(complete=False), 200, [(b"Content-Length", b"10")], HeadOutcome.INVALIDATE),
        (Stored(complete=False), 200, [], HeadOutcome.UPDATE),
        # only a 200 speaks of the same thing
        (A, 304, [(b"ETag", b'"a"')], HeadOutcome.NOTHING),
        (A, 404, [(b"ETag", b'"b"')], HeadOutcome.NOTHING),
        (A, 500, [], HeadOutcome.NOTHING),
    ],
)
def test_what_a_head_says_about_a_stored_answer(
    entry: Stored, status: int, lines: list[FieldLine], outcome: HeadOutcome
) -> None:
    assert head_outcome(entry, status, Fields(lines)) is outcome
