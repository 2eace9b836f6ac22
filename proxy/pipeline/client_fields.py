"""The fields of an answer as one route gives them to its clients."""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from proxy.message import FieldLine
from proxy.rules import cache_status

if TYPE_CHECKING:
    from proxy.pipeline.site import Route

TAG_FIELDS: Final = frozenset((b"cache-tag", b"surrogate-key", b"xkey"))
_OURS: Final = frozenset((b"cache-status",))
_OURS_AND_AGE: Final = frozenset((b"cache-status", b"age"))


def client_fields(
    route: "Route",
    lines: list[FieldLine],
    member: bytes,
    age: int | None = None,
    *,
    inner: bool = False,
) -> list[FieldLine]:
    """Return `lines` with the route's own fields, and what the cache has to say.

    `member` goes behind the other caches' in Cache-Status (RFC 9211 §2), if there is one; `age`
    replaces Age. Tags are for caches, and stay here unless the route passes them on. Another
    worker, who asks for a client of its own (`inner`), gets all as it came: it decides by that what
    to store, and puts the route's own fields to it itself.
    """
    if not member:
        names = frozenset() if inner else route.header_names
        lines = [line for line in lines if line[0].lower() not in names] if names else list(lines)
        return lines if inner else [*lines, *route.headers]
    lines, others = steady_fields(route, lines, is_stored=age is not None, inner=inner)
    if age is not None:
        lines.append((b"Age", b"%d" % age))
    lines.append((b"Cache-Status", cache_status.appended(others, member)))
    return lines


@lru_cache(maxsize=256)
def _written_anew(own: frozenset[bytes], is_stored: bool, keeps_tags: bool) -> frozenset[bytes]:
    names = own | (_OURS_AND_AGE if is_stored else _OURS)
    return names | TAG_FIELDS if keeps_tags else names


def steady_fields(
    route: "Route", lines: list[FieldLine], *, is_stored: bool, inner: bool = False
) -> tuple[list[FieldLine], bytes]:
    """Return those of `client_fields` that stay the same, and what other caches have to say.

    Behind them come Age, of what is stored, and Cache-Status.
    """
    others: list[bytes] = []
    kept: list[FieldLine] = []
    if inner:
        names = _OURS_AND_AGE if is_stored else _OURS
    else:
        keeps_tags = route.cache is not None and not route.cache.pass_tags
        names = _written_anew(route.header_names, is_stored, keeps_tags)
    for line in lines:
        name = line[0].lower()
        if name not in names:
            kept.append(line)
        elif name == b"cache-status":
            others.append(line[1])
    if not inner:
        kept += route.headers
    return kept, b", ".join(others)
