"""Entity tags and dates of modification, weak and strong. RFC 9110 §8.8."""

import pytest

from proxy.message import FieldLine, Fields
from proxy.rules.dates import format_date
from proxy.rules.validators import sole_etag, strong_validator, validators_of

MODIFIED = 784_111_777
NOW = MODIFIED + 1000
LAST_MODIFIED = (b"Last-Modified", format_date(MODIFIED))
SAME_SECOND = (b"Date", format_date(MODIFIED))
SECOND_LATER = (b"Date", format_date(MODIFIED + 1))


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (None, None),
        (b'"a"', b'"a"'),
        (b'W/"a"', b'W/"a"'),
        (b"a", None),
        (b'"a", "b"', None),
        (b'"a",', None),
        (b"", None),
        (b"*", None),
    ],
)
def test_an_etag_field_holds_exactly_one_tag(value: bytes | None, tag: bytes | None) -> None:
    assert sole_etag(value) == tag


@pytest.mark.parametrize(
    ("lines", "strong_etag", "strong_date"),
    [
        # §8.8.1
        ([(b"ETag", b'"a"')], b'"a"', None),
        ([(b"ETag", b'W/"a"')], None, None),
        # §8.8.2.2: implicitly weak, unless the Date is at least one second later
        ([LAST_MODIFIED], None, None),
        ([LAST_MODIFIED, SAME_SECOND], None, None),
        ([LAST_MODIFIED, SECOND_LATER], None, MODIFIED),
        ([LAST_MODIFIED, (b"Date", b"today")], None, None),
        ([(b"Last-Modified", b"long ago"), SECOND_LATER], None, None),
        ([LAST_MODIFIED, SECOND_LATER, (b"ETag", b'W/"a"')], None, MODIFIED),
        ([], None, None),
    ],
)
def test_which_validators_are_strong(
    lines: list[FieldLine], strong_etag: bytes | None, strong_date: int | None
) -> None:
    validators = validators_of(Fields(lines), NOW)
    assert (validators.strong_etag, validators.strong_date) == (strong_etag, strong_date)


@pytest.mark.parametrize(
    ("lines", "validator"),
    [
        ([(b"ETag", b'"a"')], b'"a"'),
        ([(b"ETag", b'"a"'), LAST_MODIFIED, SECOND_LATER], b'"a"'),
        # §13.1.5: no date where there is a tag, even one that cannot be used
        ([(b"ETag", b'W/"a"'), LAST_MODIFIED, SECOND_LATER], None),
        ([(b"ETag", b"a"), LAST_MODIFIED, SECOND_LATER], None),
        ([LAST_MODIFIED, SECOND_LATER], LAST_MODIFIED[1]),
        ([LAST_MODIFIED, SAME_SECOND], None),
        ([], None),
    ],
)
def test_what_parts_must_share(lines: list[FieldLine], validator: bytes | None) -> None:
    assert strong_validator(Fields(lines), NOW) == validator
