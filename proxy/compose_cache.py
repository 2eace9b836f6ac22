"""[route.cache] → the rule that the steps of the cache are given; once for each route."""

from collections.abc import Iterable
from math import inf
from zlib import crc32

import msgspec

from proxy.config.cache import CacheConditions, CacheKey, CacheRules, RouteCache
from proxy.rules.cache_rule import (
    NO_CONDITIONS,
    CacheRule,
    Conditions,
    FieldTest,
    Hosts,
    KeyRule,
    MediaTypes,
    Override,
    Paths,
)
from proxy.rules.name_patterns import compile_names, compile_pairs
from proxy.rules.target import as_applications_see


def cache_rule(given: RouteCache) -> CacheRule | None:
    """Return what a route wants of the cache, None when it wants none."""
    if not given.enabled:
        return None
    rule = CacheRule(
        default_ttl_s=given.default_ttl,
        force_ttl_s=given.force_ttl,
        min_ttl_s=given.min_ttl,
        max_ttl_s=inf if given.max_ttl is None else given.max_ttl,
        status_ttl_s=status_lifetimes(given.status_ttl),
        stale_while_revalidate_s=given.stale_while_revalidate,
        stale_if_error_s=given.stale_if_error,
        keep_s=given.keep,
        key=key_rule(given.key),
        bypass=conditions(given.bypass),
        no_store=conditions(given.no_store),
        ignore=frozenset(encoded(given.ignore)),
        targets=encoded(name.lower() for name in given.targets),
        largest_bytes=given.largest_object,
        slice_bytes=given.slice,
        ignored_cookies=compile_names(encoded(given.ignore_cookies))
        if given.ignore_cookies
        else None,
        pass_tags=given.tags_to_client,
    )
    rule = named(rule)
    overrides = tuple(override(rules, rule) for rules in given.rules)
    return msgspec.structs.replace(rule, overrides=overrides)


def named(rule: CacheRule) -> CacheRule:
    """Return the rule with names of what it says, by which another run tells what has changed."""
    lifetimes = (
        rule.default_ttl_s,
        rule.force_ttl_s,
        rule.min_ttl_s,
        rule.max_ttl_s,
        sorted(rule.status_ttl_s.items()),
        rule.heuristic_fraction,
        rule.heuristic_max_s,
        rule.stale_while_revalidate_s,
        rule.stale_if_error_s,
        rule.keep_s,
    )
    storing = (sorted(rule.ignore), rule.targets)
    return msgspec.structs.replace(
        rule,
        lifetime_id=crc32(repr(lifetimes).encode()),
        storing_id=crc32(repr(storing).encode()),
    )


def status_lifetimes(given: dict[str, float]) -> dict[int, float]:
    """Return the lifetime of each status; one that is named counts more than its hundred."""
    lifetimes: dict[int, float] = {}
    for name in sorted(given, key=lambda name: name.isdigit()):
        lifetimes |= dict.fromkeys(statuses([name]), given[name])
    return lifetimes


def statuses(given: Iterable[str]) -> frozenset[int]:
    """Return every status that is meant; "5xx" is a hundred of them."""
    found: set[int] = set()
    for name in given:
        if name.isdigit():
            found.add(int(name))
        else:
            first = int(name[0]) * 100
            found.update(range(first, first + 100))
    return frozenset(found)


def override(given: CacheRules, rule: CacheRule) -> Override:
    """Return the rule for some answers: the lifetimes that are written, and the rest of `rule`."""
    written = {
        "default_ttl_s": given.default_ttl,
        "force_ttl_s": given.force_ttl,
        "min_ttl_s": given.min_ttl,
        "max_ttl_s": given.max_ttl,
        "stale_while_revalidate_s": given.stale_while_revalidate,
        "stale_if_error_s": given.stale_if_error,
        "keep_s": given.keep,
    }
    changes: dict[str, object] = {
        name: value for name, value in written.items() if value is not None
    }
    meant = None if given.status is None else statuses(given.status)
    lifetime_s = given.default_ttl if given.force_ttl is None else given.force_ttl
    if meant is not None and lifetime_s is not None:
        changes["status_ttl_s"] = rule.status_ttl_s | dict.fromkeys(meant, lifetime_s)
    return Override(
        rule=named(msgspec.structs.replace(rule, **changes)),
        paths=None if given.path is None else paths(given.path),
        hosts=None if given.host is None else hosts(given.host),
        statuses=meant,
        types=None if given.type is None else media_types(given.type),
    )


def key_rule(given: CacheKey) -> KeyRule:
    """Return what the key holds."""
    query = given.query
    return KeyRule(
        keep_query=None if query.keep is None else compile_names(encoded(query.keep)),
        ignore_query=compile_names(encoded(query.ignore)) if query.ignore else None,
        sort_query=query.sort,
        cookies=encoded(given.cookies),
        headers=encoded(given.headers),
        host=given.host,
        scheme=given.scheme,
    )


def conditions(given: CacheConditions) -> Conditions:
    """Return the conditions on requests; where there are none, those that cost no request much."""
    made = Conditions(
        cookies=compile_pairs(encoded(given.cookies)) if given.cookies else None,
        headers=tuple(field_test(text) for text in given.headers),
        query=compile_pairs(encoded(given.query)) if given.query else None,
        paths=paths(given.paths) if given.paths else None,
        methods=frozenset(encoded(given.methods)),
    )
    return NO_CONDITIONS if made == NO_CONDITIONS else made


def field_test(text: str) -> FieldTest:
    """Return the test for "Name" or "Name: value"."""
    name, colon, value = text.partition(": ")
    return FieldTest(name.lower().encode(), compile_names([value.encode()]) if colon else None)


def paths(given: Iterable[str]) -> Paths:
    """Return the set of `/exact` and `/prefix/*`; the latter has `/prefix` as well."""
    exact: set[bytes] = set()
    below: list[bytes] = []
    for path in given:
        seen = as_applications_see(path.removesuffix("*").encode())
        if path.endswith("/*"):
            below.append(seen)
            exact.add(seen[:-1])
        else:
            exact.add(seen)
    return Paths(exact=frozenset(exact), below=tuple(below))


def hosts(given: Iterable[str]) -> Hosts:
    """Return the set of `example.com` and `*.example.com`."""
    found = encoded(given)
    return Hosts(
        exact=frozenset(host for host in found if not host.startswith(b"*")),
        suffixes=tuple(host[1:] for host in found if host.startswith(b"*")),
    )


def media_types(given: Iterable[str]) -> MediaTypes:
    """Return the set of `text/html` and `image/*`."""
    found = encoded(given)
    return MediaTypes(
        exact=frozenset(name for name in found if not name.endswith(b"/*")),
        families=frozenset(name[:-2] for name in found if name.endswith(b"/*")),
    )


def encoded(texts: Iterable[str]) -> tuple[bytes, ...]:
    """Return each text as it is on the wire."""
    return tuple(text.encode() for text in texts)
