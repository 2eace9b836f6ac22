"""Cache-Control for some caches only: CDN-Cache-Control and its kind. RFC 9213. Pure.

These are Structured Fields (RFC 9651): one error anywhere, and the whole field counts as absent.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Final, cast

from http_sf import StructuredFieldError, Token, parse

from proxy.message import Fields
from proxy.rules.cache_control import (
    REMEMBERED,
    REMEMBERED_BYTES,
    WITH_FIELD_NAMES,
    WITH_SECONDS,
    Directive,
    ResponseDirectives,
    interpret,
    parse_response,
)
from proxy.rules.cache_rule import CacheRule

# What `parse` returns: each member is a value and its parameters.
_Members = dict[str, tuple[object, object]]


def governing_directives(fields: Fields, rule: CacheRule) -> ResponseDirectives:
    """Return the directives that hold for an answer: of a targeted field, else of Cache-Control.

    Cache-Control and Pragma are as if absent where `rule.ignore` names them.
    """
    targeted = targeted_directives(fields, rule.targets)
    if targeted is not None:
        return targeted
    value = None if b"cache-control" in rule.ignore else fields.get(b"cache-control")
    pragma = None if b"pragma" in rule.ignore else fields.get(b"pragma")
    return parse_response(value, pragma)


def targeted_directives(fields: Fields, targets: tuple[bytes, ...]) -> ResponseDirectives | None:
    """Return the directives of the first of `targets` that is there, valid and not empty.

    They hold instead of Cache-Control and Expires. RFC 9213 §2.2.
    """
    for name in targets:
        value = fields.get(name)
        if value is not None:
            read = _read if len(value) > REMEMBERED_BYTES else _known
            directives = read(value)
            if directives is not None:
                return directives
    return None


def _read(value: bytes) -> ResponseDirectives | None:
    try:
        members = cast("_Members", parse(value, tltype="dictionary"))
    except StructuredFieldError:
        return None
    return interpret(_directives(members), targeted=True) if members else None


_known: Final = lru_cache(REMEMBERED)(_read)


def _directives(members: _Members) -> Iterator[Directive]:
    """Map the types of Structured Fields to arguments; parameters say nothing. RFC 9213 §2.1.

    A value of a type that its directive does not have is not read: a number is 0 then, a flag is
    set if it restricts. `?0` is the one value that says that a directive does not hold.
    """
    for key, (value, _) in members.items():
        name = key.encode()
        kind = type(value)
        if value is True:
            yield Directive(name)
        elif value is not False:
            if name in WITH_SECONDS:
                sound = kind is int
            elif name in WITH_FIELD_NAMES:
                sound = kind is str
            else:
                sound = kind in {int, Decimal, str, Token}
            yield Directive(name, str(value).encode() if sound else None, sound)
