"""Writes what this cache did into Cache-Status. RFC 9211.

Pure, but for a bounded memory of what was escaped last. A member is written once for every answer
that was stored or came from upstream; answers that proxyd makes itself get none (§2).
"""

import math
import re
from functools import lru_cache
from typing import Final

from proxy.rules.reuse import View

NAME: Final = b"proxyd"

# Why a request went forward, from most specific to least. RFC 9211 §2.2.
BYPASS: Final = b"bypass"
METHOD: Final = b"method"
URI_MISS: Final = b"uri-miss"
VARY_MISS: Final = b"vary-miss"
MISS: Final = b"miss"
REQUEST: Final = b"request"
STALE: Final = b"stale"
PARTIAL: Final = b"partial"

_HIT: Final = NAME + b"; hit; ttl=%d"
_FORWARDED: Final = NAME + b"; fwd="
_STALE: Final = re.compile(rb"; ttl=-([0-9]+)")
# The largest Integer of a structured field. RFC 8941 §3.3.1.
_LARGEST: Final = 999_999_999_999_999
_TOKEN: Final = re.compile(rb"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_NOT_IN_STRING: Final = re.compile(rb"[^\x20-\x7e]")
_ESCAPED_IN_STRING: Final = re.compile(rb'(["\\])')
DETAILS_REMEMBERED: Final = 256


def hit(ttl_s: float, *, key: bytes | None = None, detail: bytes | None = None) -> bytes:
    """Write the member of an answer that did not go forward. RFC 9211 §2.1.

    `ttl_s` is what is left of the lifetime, negative when it is served stale.
    """
    member = _HIT % _integer(ttl_s)
    if key is not None or detail is not None:
        member += _key_and_detail(key, detail)
    return member


def is_hit(member: bytes) -> bool:
    """Say whether a member is one that `hit` has written."""
    return member.startswith(_HIT[: _HIT.index(b"%d")])


def outcome(value: bytes) -> bytes:
    """Say in a word what the last member, when it is ours, tells: b"hit", or why it went forward.

    b"collapsed" is who was given what another request has fetched; b"" when it is not ours.
    """
    _, begin, member = value.rpartition(NAME + b"; ")
    parts = member.split(b"; ") if begin else []
    if b"collapsed" in parts:
        return b"collapsed"
    return parts[0].removeprefix(b"fwd=") if parts else b""


def forwarded(
    why: bytes,
    *,
    status: int | None = None,
    ttl_s: float | None = None,
    stored: bool | None = None,
    collapsed: bool | None = None,
    key: bytes | None = None,
    detail: bytes | None = None,
) -> bytes:
    """Write the member of an answer for which the request went forward. RFC 9211 §2.2.

    `why` is one of the constants above, `status` what the upstream said, `collapsed` False when
    the request waited for another one in vain. What is None is left out.
    """
    parts = [_FORWARDED, why]
    if status is not None:
        parts.append(b"; fwd-status=%d" % status)
    if ttl_s is not None:
        parts.append(b"; ttl=%d" % _integer(ttl_s))
    if stored is not None:
        parts.append(b"; stored" if stored else b"; stored=?0")
    if collapsed is not None:
        parts.append(b"; collapsed" if collapsed else b"; collapsed=?0")
    parts.append(_key_and_detail(key, detail))
    return b"".join(parts)


def stale_s(member: bytes) -> float:
    """Read from a member of ours for how long the answer had been stale; 0 when it was not.

    Up to a second too much, as `ttl` is rounded down.
    """
    found = _STALE.search(member.partition(b"; key=")[0])
    return float(found[1]) if found else 0.0


def why_validated(entry: View, now: float) -> bytes:
    """Say why a request went forward although `entry` was there for it. RFC 9211 §2.2.

    What is fresh is kept back by the request alone.
    """
    return REQUEST if now < entry.fresh_until and not entry.no_cache else STALE


def appended(existing: bytes | None, member: bytes) -> bytes:
    """Put our member behind those of the caches nearer to the origin. RFC 9211 §2."""
    return existing + b", " + member if existing else member


def _key_and_detail(key: bytes | None, detail: bytes | None) -> bytes:
    written = b"" if key is None else b"; key=" + _string(key)
    return written if detail is None else written + b"; detail=" + _token_or_string(detail)


def _integer(seconds: float) -> int:
    """Round down, so that what has become stale says so, into what the field can say."""
    if -_LARGEST <= seconds <= _LARGEST:
        return math.floor(seconds)
    return _LARGEST if seconds > 0 else -_LARGEST


def _string(value: bytes) -> bytes:
    """Write a String: printable ASCII with two escapes; other octets become "%XX"."""
    value = _NOT_IN_STRING.sub(lambda match: b"%%%02X" % match[0][0], value)
    return b'"' + _ESCAPED_IN_STRING.sub(rb"\\\1", value) + b'"'


@lru_cache(maxsize=DETAILS_REMEMBERED)
def _token_or_string(value: bytes) -> bytes:
    return value if _TOKEN.fullmatch(value) else _string(value)
