"""What [route.cache] says, compiled: the cases in which it departs from what answers say. Pure.

`CacheRule()` is the cache of the RFCs and nothing else. Times are seconds.
"""

import fnmatch
import re
from collections.abc import Iterable
from math import inf

import msgspec

DAY_S = 86_400.0


class Names(msgspec.Struct, frozen=True):
    """Names of cookies, query parameters or fields: exact ones, and patterns such as `utm_*`."""

    exact: frozenset[bytes] = frozenset()
    pattern: re.Pattern[bytes] | None = None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and (
            name in self.exact or (self.pattern is not None and bool(self.pattern.fullmatch(name)))
        )

    def __bool__(self) -> bool:
        return bool(self.exact) or self.pattern is not None


def names(given: Iterable[bytes]) -> Names:
    """Compile names, in which a star stands for anything."""
    plain = frozenset(name for name in given if b"*" not in name)
    stars = [name for name in given if b"*" in name]
    if not stars:
        return Names(plain)
    translated = [fnmatch.translate(name.decode("latin-1").replace("[", "[[]")) for name in stars]
    return Names(plain, re.compile("|".join(translated).encode("latin-1")))


class KeyRule(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one stored answer from another. RFC 9111 §2.

    Of the query, the parameters in `query_keep` (all when None) without those in `query_ignore`,
    in the order of their names when `query_sort`. `cookies` and `headers` (lower case) add their
    values. Danger: without `host` or `scheme` the answers of all hosts and schemes are one.
    """

    query_keep: Names | None = None
    query_ignore: Names = Names()
    query_sort: bool = False
    cookies: tuple[bytes, ...] = ()
    headers: tuple[bytes, ...] = ()
    host: bool = True
    scheme: bool = True


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """When a request is meant: any one of these suffices; nothing at all is never."""

    cookies: Names = Names()
    headers: Names = Names()
    query: Names = Names()
    paths: Names = Names()


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Lifetimes for some answers of a route; None matches all, and leaves a lifetime as it was.

    `types` are Content-Types without parameters, in lower case, patterns such as `image/*`.
    """

    paths: Names | None = None
    hosts: Names | None = None
    statuses: frozenset[int] | None = None
    types: Names | None = None
    default_ttl_s: float | None = None
    force_ttl_s: float | None = None
    min_ttl_s: float | None = None
    max_ttl_s: float | None = None
    stale_while_revalidate_s: float | None = None
    stale_if_error_s: float | None = None


class CacheRule(msgspec.Struct, frozen=True, kw_only=True):
    """The rule of one route.

    `status_ttl_s` holds every status that it is for. `ignore` names what is overruled, in lower
    case: fields of the answer (cache-control, expires, pragma, set-cookie, vary), `authorization`,
    and `request-cache-control`. `keep_s` is how long past its last use as an answer an entry stays
    to be validated. `targets` are fields of RFC 9213, the most specific first. `largest_bytes` is
    the largest content that is stored; `slice_bytes` is 0 where objects are fetched whole.
    """

    default_ttl_s: float | None = None
    force_ttl_s: float | None = None
    min_ttl_s: float = 0.0
    max_ttl_s: float = inf
    status_ttl_s: dict[int, float] = {}
    heuristic_fraction: float = 0.1
    heuristic_max_s: float = DAY_S
    stale_while_revalidate_s: float | None = None
    stale_if_error_s: float | None = None
    keep_s: float = DAY_S
    key: KeyRule = KeyRule()
    bypass: Conditions = Conditions()
    no_store: Conditions = Conditions()
    ignore: frozenset[bytes] = frozenset()
    ignored_cookies: Names = Names()
    targets: tuple[bytes, ...] = (b"cdn-cache-control",)
    largest_bytes: int = 1 << 30
    slice_bytes: int = 0
    overrides: tuple[Override, ...] = ()
    pass_tags: bool = False


def rule_for(rule: CacheRule, path: bytes, host: bytes, status: int, kind: bytes) -> CacheRule:
    """Return the rule with the lifetimes of the first override that an answer matches.

    `kind` is the Content-Type as received.
    """
    if not rule.overrides:
        return rule
    media_type = kind.partition(b";")[0].strip().lower()
    for override in rule.overrides:
        if (
            (override.paths is None or path in override.paths)
            and (override.hosts is None or host in override.hosts)
            and (override.statuses is None or status in override.statuses)
            and (override.types is None or media_type in override.types)
        ):
            changes = {
                name: value
                for name in (
                    "default_ttl_s",
                    "force_ttl_s",
                    "min_ttl_s",
                    "max_ttl_s",
                    "stale_while_revalidate_s",
                    "stale_if_error_s",
                )
                if (value := getattr(override, name)) is not None
            }
            return msgspec.structs.replace(rule, **changes)
    return rule
