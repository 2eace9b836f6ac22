"""Tells one representation from another: entity tags and dates, weak and strong. RFC 9110 §8.8.

Pure: `now` is seconds since the epoch, and needed only for dates with two-digit years.
"""

from typing import NamedTuple

from proxy.message import Fields
from proxy.rules.conditional import parse_etags
from proxy.rules.dates import parse_date


class Validators(NamedTuple):
    """The validators of one answer, None where it has none that is well-formed.

    `modified_at` is in seconds since the epoch; `date_is_strong` when it cannot have been followed
    by another change under the same date. RFC 9110 §8.8.2.2.
    """

    etag: bytes | None
    modified_at: int | None
    date_is_strong: bool

    @property
    def strong_etag(self) -> bytes | None:
        """The entity tag unless it is weak. RFC 9110 §8.8.1."""
        return None if self.etag is None or self.etag.startswith(b"W/") else self.etag

    @property
    def strong_date(self) -> int | None:
        """The date of modification unless it is weak. RFC 9110 §8.8.2.2."""
        return self.modified_at if self.date_is_strong else None


def validators_of(fields: Fields, now: int) -> Validators:
    """Read the validators of an answer.

    A date of modification is strong when the answer's own Date is at least one second later.
    """
    modified_at = _seconds(fields.get(b"last-modified"), now)
    date = _seconds(fields.get(b"date"), now)
    strong = modified_at is not None and date is not None and date > modified_at
    return Validators(sole_etag(fields.get(b"etag")), modified_at, strong)


def sole_etag(value: bytes | None) -> bytes | None:
    """Return the entity tag that an ETag field holds, None when it is not exactly one."""
    tags = None if value is None else parse_etags(value)
    return tags[0] if tags is not None and len(tags) == 1 and tags[0] == value else None


def strong_validator(fields: Fields, now: int) -> bytes | None:
    """Return what two parts must share to be parts of one thing, as If-Range would send it.

    An entity tag alone counts where there is one, even one that is weak or malformed: a client
    must not send the date then. RFC 9110 §13.1.5, §15.3.7.3.
    """
    validators = validators_of(fields, now)
    if b"etag" in fields:
        return validators.strong_etag
    return fields.get(b"last-modified") if validators.date_is_strong else None


def _seconds(value: bytes | None, now: int) -> int | None:
    return None if value is None else parse_date(value, now)
