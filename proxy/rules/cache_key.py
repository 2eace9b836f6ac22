"""The key of an answer, and what tells its variants apart. RFC 9111 §2, §4.1. Pure.

A primary key is readable: the URL, and for whatever else the rule wants in it a part of its own:
b"https://example.com/a?b=1 cookie:lang=de". A variant key has such a part for each field:
b"accept-encoding=br,gzip accept-language" (the latter is absent, which is not the same as empty).

What neither holds must not decide about the answer, or whoever asks first decides for all. So the
upstream is sent what is in the key, and nothing that the rule leaves out: `key_query` and
`without_ignored_cookies` say what that is.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from proxy.message import FieldLine, Fields, Request
from proxy.rules.cache_control import REMEMBERED, TOKEN, ResponseDirectives
from proxy.rules.cache_rule import CacheRule, KeyRule
from proxy.rules.canonical import canonical_value
from proxy.rules.cookies import parse_cookies
from proxy.rules.forwarding import Origin
from proxy.rules.query import Parameter, parse_query

# A longer value is in a key as its digest, so that a client cannot make keys long.
READABLE_BYTES: Final = 128
# 160 bits: to find two values with one digest takes 2^80 attempts. git's names have as many.
DIGEST_BYTES: Final = 20

# Longer values are normalised each time, so that what is remembered stays small (2 MiB).
REMEMBERED_BYTES: Final = 512

# Who may see keys (logs, `proxyd cache ls`, files) must not learn these.
SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization"))

_PORTS: Final = {b"http": b":80", b"https": b":443"}
# Fields that proxyd writes for the upstream (`rules.forwarding`), with what in the key decides
# about their values; those that differ from client to client; and how such names begin.
_WRITTEN: Final[dict[bytes, tuple[str, ...]]] = {
    b"host": ("host",),
    b"x-forwarded-host": ("host",),
    b"x-forwarded-port": ("host", "scheme"),
    b"x-forwarded-prefix": (),
    b"x-forwarded-proto": ("scheme",),
}
_WRITTEN_FOR_ONE: Final = frozenset((b"forwarded", b"x-real-ip", b"x-request-id"))
_IDENTIFYING: Final = (
    b"x-forwarded-",
    b"client-cert",
    b"x-client-cert",
    b"x-ssl-client",
    b"ssl-client",
)

# What stands in a key as it is: visible ASCII, without "#" (a digest) and "%" (an escape).
_UNREADABLE: Final = re.compile(rb"[^!\"$&-~]")


def primary_key(
    request: Request, rule: KeyRule, scheme: bytes, origin: Origin | None = None
) -> bytes:
    """Return the key of the resource that a request is for; GET and HEAD have the same.

    `origin` is who asks, where a trusted peer may have named another host or port: applications
    build their links from these, so both are in the key then.
    """
    key = base_key(scheme, request.authority, request.path, request.query, rule)
    if origin is not None and rule.host:
        if origin.host != request.authority:
            key += b" forwarded-host:" + origin.host
        port = b":" + origin.port
        if not origin.host.endswith(port) and port != _PORTS[scheme]:
            key += b" forwarded-port:" + origin.port
    return key + chosen_parts(request.fields, rule)


def base_key(
    scheme: bytes, authority: bytes, path: bytes, query: bytes | None, rule: KeyRule
) -> bytes:
    """Return the URL in the keys of a resource, which several keys may have in common.

    The authority is without the default port of `scheme` (RFC 9110 §4.2.3). What the rule leaves
    out is b"*", which is no authority and no scheme.
    """
    return with_path(key_start(scheme, authority, rule), path, key_query(query, rule))


def key_start(scheme: bytes, authority: bytes, rule: KeyRule) -> bytes:
    """Return what a `base_key` has before the path."""
    if b":" in authority:
        authority = authority.removesuffix(_PORTS[scheme])
    return b"%b://%b" % (scheme if rule.scheme else b"*", authority if rule.host else b"*")


def with_path(start: bytes, path: bytes, query: bytes | None) -> bytes:
    """Return a `base_key` made of its parts; `query` is the one that counts."""
    return start + path if query is None else b"".join((start, path, b"?", query))


def key_url(key: bytes) -> bytes:
    """Return the `base_key` in a primary key, which is all of it up to the first space."""
    return key.partition(b" ")[0]


def key_query(query: bytes | None, rule: KeyRule) -> bytes | None:
    """Return the query that counts, which is also what the upstream is to be sent.

    Parameters of one name keep their order among each other. None when none of them is left.
    """
    if query is None or counts_whole_query(rule):
        return query
    keep, ignore = rule.keep_query, rule.ignore_query
    parameters = [
        parameter
        for parameter in parse_query(query)
        if (keep is None or keep.fullmatch(parameter.name))
        and (ignore is None or not ignore.fullmatch(parameter.name))
    ]
    if rule.sort_query:
        parameters.sort(key=_name)
    return b"&".join([parameter.raw for parameter in parameters]) if parameters else None


def counts_whole_query(rule: KeyRule) -> bool:
    """Say whether a query counts as it is written."""
    return rule.keep_query is None and rule.ignore_query is None and not rule.sort_query


def vary_names(fields: Fields, ignore: frozenset[bytes] = frozenset()) -> tuple[bytes, ...] | None:
    """Return the lower-case names in the Vary of an answer, sorted. RFC 9111 §4.1.

    None for `*`, and for what is no list of names: neither fits any other request. A Vary that
    `ignore` names still counts for Cookie and Authorization: who asks matters, whatever a rule
    overlooks.
    """
    value = fields.get(b"vary")
    if not value:
        return ()
    read = _read_vary if len(value) > REMEMBERED_BYTES else _known_vary
    return read(value, b"vary" in ignore)


def _read_vary(value: bytes, ignored: bool) -> tuple[bytes, ...] | None:
    names = {name.strip(b" \t") for name in value.lower().split(b",")} - {b""}
    if ignored:
        return tuple(sorted(names & SECRET))
    if b"*" in names or not all(TOKEN.fullmatch(name) for name in names):
        return None
    return tuple(sorted(names))


_known_vary: Final = lru_cache(REMEMBERED)(_read_vary)


def variant_names(
    fields: Fields, directives: ResponseDirectives, rule: CacheRule
) -> tuple[bytes, ...] | None:
    """Return the names of the request fields by which an answer is told apart; None for `*`.

    Those of Vary, and Authorization and Cookie unless the answer itself says that it is for all: by
    `public`, by `s-maxage`, or in a field that is for shared caches only (RFC 9213). max-age alone
    is often meant for the browser, and a lifetime from a rule says nothing about whom it is for.
    The standard permits every reuse and demands none (RFC 9111 §4). What `ignore` permits to store
    despite Authorization (§3.5) is only for those who send the same.
    """
    names = vary_names(fields, rule.ignore)
    if names:
        names = _as_sent_upstream(names, rule.key)
    if names is None:
        return None
    for_all = directives.public or directives.s_maxage is not None or directives.targeted
    implied: tuple[bytes, ...] = () if for_all else (b"authorization", b"cookie")
    if b"authorization" in rule.ignore and not directives.shared:
        implied = (b"authorization", *implied)
    return tuple(sorted({*names, *implied})) if implied else names


def variant_key(names: tuple[bytes, ...], fields: Fields, rule: CacheRule) -> bytes:
    """Return what a request's `fields` come to in `names`: equal ones match. RFC 9111 §4.1.

    Values that mean the same are written the same way. Of Cookie, only the cookies that matter
    count, in whatever order (RFC 6265 §4.2.2).
    """
    if not names:
        return b""
    parts = []
    for name in names:
        value = fields.get(name)
        if value is not None and name == b"cookie":
            value = _told_apart(value, rule)
        parts.append(name if value is None else _part(name, value))
    return b" ".join(parts)


def cookies_that_matter(value: bytes | None, rule: CacheRule) -> list[tuple[bytes, bytes]]:
    """Return the cookies that the rule does not ignore; those in the key always matter."""
    cookies = parse_cookies(value)
    ignored = rule.ignored_cookies
    if ignored is None:
        return cookies
    chosen = rule.key.cookies
    return [cookie for cookie in cookies if cookie[0] in chosen or not ignored.fullmatch(cookie[0])]


def without_ignored_cookies(fields: Fields, rule: CacheRule) -> list[FieldLine]:
    """Return the field lines of a request without the cookies that do not matter.

    What the upstream cannot see cannot get into an answer that is for others, too.
    """
    value = fields.get(b"cookie")
    if value is None or rule.ignored_cookies is None:
        return fields.lines
    lines = [line for line in fields if line[0].lower() != b"cookie"]
    cookies = cookies_that_matter(value, rule)
    if cookies:
        lines.append((b"Cookie", b"; ".join([name + b"=" + given for name, given in cookies])))
    return lines


def _as_sent_upstream(names: tuple[bytes, ...], rule: KeyRule) -> tuple[bytes, ...] | None:
    """Return `names` without those of fields that the key covers; None when one cannot be compared.

    proxyd writes these fields itself: what they say is not what the client sent.
    """
    compared = []
    for name in names:
        covered_by = _WRITTEN.get(name)
        if covered_by is not None:
            if not all(getattr(rule, part) for part in covered_by):
                return None
        elif name in _WRITTEN_FOR_ONE or name.startswith(_IDENTIFYING):
            return None
        else:
            compared.append(name)
    return tuple(compared)


def chosen_parts(fields: Fields, rule: KeyRule) -> bytes:
    """Return the parts for the cookies and fields that the rule wants in the key, b"" for none.

    A cookie that is sent twice is there twice: applications differ in which one they take.
    """
    if not rule.cookies and not rule.headers:
        return b""
    parts: list[bytes] = []
    cookies = parse_cookies(fields.get(b"cookie")) if rule.cookies else []
    for name in rule.cookies:
        parts += [b" cookie:" + _pair(name, value) for given, value in cookies if given == name]
    for name in rule.headers:
        value = fields.get(name)
        if value is not None:
            parts.append(b" header:" + _part(name, value))
    return b"".join(parts)


def _told_apart(value: bytes, rule: CacheRule) -> bytes | None:
    """Write the cookies that matter in the order of their names; None without any.

    Cookies of one name keep their order, for applications take the first or the last.
    """
    cookies = cookies_that_matter(value, rule)
    cookies.sort(key=_first)
    return b"; ".join([name + b"=" + content for name, content in cookies]) or None


def _part(name: bytes, value: bytes) -> bytes:
    if name in SECRET:
        return b"%b=#%b" % (name, _digest(value))
    if len(value) > REMEMBERED_BYTES:
        return _normal_part.__wrapped__(name, value)
    return _normal_part(name, value)


@lru_cache(maxsize=4096)
def _normal_part(name: bytes, value: bytes) -> bytes:
    """Write one field and its value, which many requests have in common."""
    return _pair(name, canonical_value(name, value))


def _pair(name: bytes, value: bytes) -> bytes:
    if len(value) > READABLE_BYTES:
        return b"%b=#%b" % (name, _digest(value))
    return b"%b=%b" % (name, _UNREADABLE.sub(_escaped, value))


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=DIGEST_BYTES).hexdigest().encode()


def _name(parameter: Parameter) -> bytes:
    return parameter.name


def _first(pair: tuple[bytes, object]) -> bytes:
    return pair[0]


def _escaped(octet: re.Match[bytes]) -> bytes:
    return b"%%%02X" % octet[0][0]
