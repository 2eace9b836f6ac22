"""What tells one stored answer from another: its primary key, and Vary. RFC 9111 §2, §4.1.

Pure. A key is readable, and no two requests that differ in what counts have the same: whatever
could be taken for a part of the key's own grammar is percent-encoded.
"""

import re

from proxy.message import Fields, Request
from proxy.rules.cache_rule import CacheRule, KeyRule
from proxy.rules.conditions import cookies, parameters

_RESERVED = re.compile(rb"[\x00-\x20%;=|\x7f-\xff]")
# Fields whose list says the same in any order and case. RFC 9110 §12.5.2 to §12.5.4.
_LISTS = frozenset((b"accept-encoding", b"accept-language", b"accept-charset"))
_WEIGHTED = re.compile(rb"[ \t]*;[ \t]*q=", re.IGNORECASE)
ABSENT = b"-"


def primary_key(request: Request, rule: KeyRule, scheme: bytes) -> bytes:
    """Return the key of what `request` asks for, the same for GET and HEAD.

    `https://example.com/path?query`, then ` cookie:name=value` and ` header:name=value` for what
    the rule adds.
    """
    parts = []
    if rule.scheme:
        parts.append(scheme + b":")
    parts.append(b"//" + (request.authority if rule.host else b"*"))
    parts.append(request.path)
    query = request.query
    if query is not None:
        query = _query(query, rule)
        if query is not None:
            parts.append(b"?" + query)
    if rule.cookies:
        given = dict(reversed(list(cookies(request.fields.get(b"cookie") or b""))))
        parts += [b" cookie:%b" % _pair(name, given.get(name)) for name in rule.cookies]
    if rule.headers:
        get = request.fields.get
        parts += [b" header:%b" % _pair(name, get(name)) for name in rule.headers]
    return b"".join(parts)


def _query(query: bytes, rule: KeyRule) -> bytes | None:
    """Return the part of a query that counts; None when nothing of it is left."""
    if rule.query_keep is None and not rule.query_ignore and not rule.query_sort:
        return query
    kept = [
        (name, parameter)
        for name, parameter in parameters(query)
        if (rule.query_keep is None or name in rule.query_keep) and name not in rule.query_ignore
    ]
    if rule.query_sort:
        kept.sort(key=lambda pair: pair[0])  # stable: the order of one name's values counts
    return b"&".join(parameter for _name, parameter in kept) if kept else None


def _pair(name: bytes, value: bytes | None) -> bytes:
    """Write a name with its value, one that is absent unlike one that is empty."""
    return name if value is None else b"%b=%b" % (name, _escaped(value))


def _escaped(value: bytes) -> bytes:
    return _RESERVED.sub(lambda match: b"%%%02X" % match[0][0], value)


def vary_names(fields: Fields, ignore: frozenset[bytes]) -> tuple[bytes, ...] | None:
    """Return the names in Vary, lower-case and sorted; None when nothing can match (`*`).

    A member that is no name is kept as it is: it matches no field, which is absent then.
    """
    value = fields.get(b"vary")
    if value is None or b"vary" in ignore:
        return ()
    found = {name.strip(b" \t").lower() for name in value.split(b",")} - {b""}
    return None if b"*" in found else tuple(sorted(found))


def variant_key(names: tuple[bytes, ...], fields: Fields, rule: CacheRule) -> bytes:
    """Return what the fields named in Vary come to in a request. RFC 9111 §4.1.

    Lists of codings and languages are the same in any order; cookies that do not matter are left
    out; a field that is absent is unlike one that is empty.
    """
    if not names:
        return b""
    return b"|".join([_selecting(name, fields.get(name), rule) for name in names])


def _selecting(name: bytes, value: bytes | None, rule: CacheRule) -> bytes:
    if value is not None:
        if name in _LISTS:
            members = {_member(member) for member in value.split(b",")} - {b""}
            value = b",".join(sorted(members))
        elif name == b"cookie" and rule.ignored_cookies:
            kept = [pair for pair in cookies(value) if pair[0] not in rule.ignored_cookies]
            value = b"; ".join(b"%b=%b" % pair for pair in kept) or None
    return ABSENT if value is None else b"=" + _escaped(value)


def _member(member: bytes) -> bytes:
    """Write one member of a weighted list in one way."""
    return _WEIGHTED.sub(b";q=", member.strip(b" \t")).lower()
