"""The step that empties the cache: PURGE, from the networks that [cache] purge_from names.

    PURGE /news/today             this URL, over http and https, in all of its variants
    PURGE /news/*                 every URL of this host that fits; a star stands for anything
    PURGE /  Surrogate-Key: a b   what carries one of these tags; Cache-Tag and xkey are the same
    PURGE /  Proxyd-Purge: all    everything, of every host

`Proxyd-Purge: soft`, or Fastly's `Fastly-Soft-Purge: 1`, makes stale what would go otherwise. The
answer, JSON, says what was done; by then it holds on every worker.
"""

import json
from collections.abc import Iterable, Sequence

from proxy.cache.purges import Kind, Verdict
from proxy.errors import BadRequestError, ForbiddenError, HttpError, NotFoundError, PurgeError
from proxy.message import Fields, Request, Response
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route
from proxy.rules.cache_key import base_key
from proxy.rules.cache_rule import KeyRule
from proxy.rules.cache_tags import tags_fit, tags_of

METHOD = b"PURGE"

Purge = tuple[Kind, bytes]

_WORDS = frozenset((b"all", b"soft"))
_SCHEMES = (b"http", b"https")


def purge(exchange: Exchange) -> Step:
    """Purge what the request names; raises ForbiddenError for clients who may not."""
    site, request = exchange.site, exchange.request
    if site.purge_from is None or exchange.client not in site.purge_from:
        raise ForbiddenError(f"PURGE from {exchange.client}, whom [cache] purge_from does not name")
    words = purge_words(request.fields)
    mode = Verdict.SOFT if b"soft" in words else Verdict.HARD
    wanted = purges_of(request, site.routes, everything=b"all" in words)
    if site.cache is not None:
        try:
            for kind, argument in wanted:
                site.cache.purges.add(kind, mode, argument)
        except PurgeError as error:
            raise HttpError(str(error)) from error
    exchange.response = Response(
        200,
        [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store")],
        json.dumps({"mode": mode.name.lower(), "purged": described(wanted)}).encode() + b"\n",
    )
    return respond


def purge_words(fields: Fields) -> frozenset[bytes]:
    """Return how to purge: b"all", b"soft". Raises BadRequestError for what is neither."""
    value = fields.get(b"proxyd-purge") or b""
    words = frozenset(word.strip().lower() for word in value.split(b",")) - {b""}
    if not words <= _WORDS:
        raise BadRequestError(f"Proxyd-Purge knows `all` and `soft`, not {value[:64]!r}")
    if (fields.get(b"fastly-soft-purge") or b"0") != b"0":
        words |= {b"soft"}
    return words


def purges_of(request: Request, routes: Sequence[Route], *, everything: bool) -> list[Purge]:
    """Return the purges that a request comes to. Raises BadRequestError, NotFoundError."""
    if everything:
        return [(Kind.ALL, b"")]
    if not tags_fit(request.fields):
        raise BadRequestError("too many tags to purge at once, or too long ones")
    tags = tags_of(request.fields)
    if tags:
        return [(Kind.TAG, tag) for tag in tags]
    return url_purges(request, routes)


def url_purges(request: Request, routes: Sequence[Route]) -> list[Purge]:
    """Return the purges of the URL of a request, or of those that fit when it has a star.

    What the key of its route leaves out is left out; there are none where nothing is cached.
    """
    if b"*" in request.path or b"*" in (request.query or b""):
        return [(Kind.PATTERN, pattern) for pattern in _keys(request, _shapes(routes))]
    for route in routes:
        if route.matches(request.host, request.route_path):
            rules = [] if route.cache is None else [route.cache.key]
            return [(Kind.URL, url) for url in _keys(request, rules)]
    raise NotFoundError("no route matches what is to be purged")


def described(purges: Iterable[Purge]) -> list[dict[str, str]]:
    """Return purges as they are told, in JSON and on the terminal."""
    return [
        {"kind": kind.name.lower(), "what": argument.decode("utf-8", "backslashreplace")}
        for kind, argument in purges
    ]


def _shapes(routes: Iterable[Route]) -> list[KeyRule]:
    """Return what the URLs in keys look like; which route a pattern is about cannot be told."""
    rules = [route.cache.key for route in routes if route.cache is not None]
    return [
        KeyRule(host=host, scheme=scheme)
        for host, scheme in dict.fromkeys((rule.host, rule.scheme) for rule in rules)
    ]


def _keys(request: Request, rules: Iterable[KeyRule]) -> list[bytes]:
    """Return the URLs in the keys of a request; http and https, for who purges has no browser."""
    keys = [
        base_key(scheme, request.authority, request.path, request.query, rule)
        for rule in rules
        for scheme in _SCHEMES
    ]
    return list(dict.fromkeys(keys))
