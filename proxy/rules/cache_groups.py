"""Groups of stored answers, and what an unsafe request invalidates with one word. RFC 9875. Pure.

    Cache-Groups: "posts", "people"             on an answer that is stored
    Cache-Group-Invalidation: "posts"           on the answer to a POST

Both are lists of Strings (RFC 9651): one error anywhere, and the field counts as absent. A group is
one of an origin; here it is a tag that says so, as tags go by any origin's.
"""

from functools import lru_cache
from typing import Final, cast

from http_sf import StructuredFieldError, Token, parse

from proxy.message import Fields
from proxy.rules.cache_control import REMEMBERED, REMEMBERED_BYTES
from proxy.rules.invalidation import SAFE_METHODS

GROUPS: Final = b"cache-groups"
INVALIDATION: Final = b"cache-group-invalidation"

# A cache must take 32 of 32 characters each (§2.1, §3); Cloudflare takes 1,000 tags of 1,024.
MOST_GROUPS: Final = 128
LONGEST_GROUP: Final = 256


def group_tags(fields: Fields, origin: bytes) -> tuple[bytes, ...]:
    """Return the groups of an answer of `origin` as tags. RFC 9875 §2."""
    return _tags(fields.get(GROUPS), origin)


def invalidated_tags(
    method: bytes, status: int, fields: Fields, origin: bytes
) -> tuple[bytes, ...]:
    """Return the tags of the groups that an answer invalidates; none for safe methods.

    RFC 9875 §3; an error has changed nothing, as in RFC 9111 §4.4.
    """
    if method in SAFE_METHODS or not 200 <= status < 400:
        return ()
    return _tags(fields.get(INVALIDATION), origin)


def _tags(value: bytes | None, origin: bytes) -> tuple[bytes, ...]:
    if value is None:
        return ()
    return (_read if len(value) > REMEMBERED_BYTES else _known)(value, origin)


def _read(value: bytes, origin: bytes) -> tuple[bytes, ...]:
    try:
        members = cast("list[tuple[object, object]]", parse(value, tltype="list"))
    except StructuredFieldError:
        return ()
    names = [member for member, _parameters in members if _is_name(member)]
    return tuple(
        b'group "%b" of %b' % (str(name).encode(), origin)
        for name in dict.fromkeys(names[:MOST_GROUPS])
    )


_known: Final = lru_cache(REMEMBERED)(_read)


def _is_name(member: object) -> bool:
    return (
        isinstance(member, str) and not isinstance(member, Token) and len(member) <= LONGEST_GROUP
    )
