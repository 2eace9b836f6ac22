"""What [route.cache] says, compiled: the values that every rule of the cache is given. Pure.

`CacheRule()` is the cache of RFC 9111 and nothing else. Names that people write with a star are
regular expressions here, made once by `name_patterns`; field names are in lower case.
"""

import re
from math import inf
from typing import NamedTuple

import msgspec

# How long a stale answer that nothing else keeps can still be validated. Varnish keeps it for
# default_keep (0s), nginx until nobody has asked for `inactive` (10m); what is least used goes
# first in any case, so a day costs nothing that somebody else needs.
KEEP_S = 86400.0

# Past this an answer goes through without being stored. Squid 4 MB, Apache 1 MB, nginx 1 GB.
LARGEST_BYTES = 128 << 20

# Of which fields of the two messages `ignore` can take away what they say to the cache.
IGNORABLE = (
    b"cache-control",
    b"expires",
    b"pragma",
    b"set-cookie",
    b"vary",
    b"authorization",
    b"request-cache-control",
)


class KeyRule(msgspec.Struct, frozen=True, kw_only=True):
    """What the key holds besides the path.

    `keep_query` matches the names of the query parameters that count, `ignore_query` of those that
    do not, None in both: all count as they are written. `sort_query` puts them in the order of
    their names. `cookies` and `headers` are the names of those whose values are in the key.
    """

    keep_query: re.Pattern[bytes] | None = None
    ignore_query: re.Pattern[bytes] | None = None
    sort_query: bool = False
    cookies: tuple[bytes, ...] = ()
    headers: tuple[bytes, ...] = ()
    host: bool = True
    scheme: bool = True


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """A set of paths, with every escape decoded: `exact` ones, and all that begin with `below`."""

    exact: frozenset[bytes] = frozenset()
    below: tuple[bytes, ...] = ()


class Hosts(msgspec.Struct, frozen=True, kw_only=True):
    """A set of lower-case hosts: `exact` ones, and all that end with one of `suffixes` (".a.b")."""

    exact: frozenset[bytes] = frozenset()
    suffixes: tuple[bytes, ...] = ()


class MediaTypes(msgspec.Struct, frozen=True, kw_only=True):
    """A set of lower-case media types: `exact` ones, and whole `families` (b"image")."""

    exact: frozenset[bytes] = frozenset()
    families: frozenset[bytes] = frozenset()


class FieldTest(NamedTuple):
    """Whether a request has the field `name`, with a value that matches, None: any."""

    name: bytes
    value: re.Pattern[bytes] | None


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may have; one of these is enough. `cookies` and `query` match `name=value`."""

    cookies: re.Pattern[bytes] | None = None
    headers: tuple[FieldTest, ...] = ()
    query: re.Pattern[bytes] | None = None
    paths: Paths | None = None
    methods: frozenset[bytes] = frozenset()


NO_CONDITIONS = Conditions()


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Which answers have other lifetimes, and the whole rule for these.

    All of the four must fit, where None fits everything. `rule` has no overrides of its own, and
    the key, the conditions and the limits of the rule around it.
    """

    rule: "CacheRule"
    paths: Paths | None = None
    hosts: Hosts | None = None
    statuses: frozenset[int] | None = None
    types: MediaTypes | None = None


class CacheRule(msgspec.Struct, frozen=True, kw_only=True):
    """What a route wants of its cache, where it wants anything.

    `default_ttl_s` holds when an answer says nothing, `force_ttl_s` whatever it says; in
    `status_ttl_s`, "5xx" is a hundred statuses. The stale windows hold when an answer does not name
    its own. For `keep_s` past all of its windows an answer stays for validation. `ignore` has names
    of IGNORABLE. `targets` are targeted fields (RFC 9213), the weightiest first. `ignored_cookies`
    matches the names of cookies that do not matter. With `slice_bytes` large answers are kept in
    slices of that size, 0: whole. `pass_tags`: clients see the tags. Two rules with one
    `lifetime_id` give the same lifetimes, with one `storing_id` they read answers alike.
    """

    default_ttl_s: float | None = None
    force_ttl_s: float | None = None
    min_ttl_s: float = 0.0
    max_ttl_s: float = inf
    status_ttl_s: dict[int, float] = {}
    heuristic_fraction: float = 0.1
    heuristic_max_s: float = 86400.0
    stale_while_revalidate_s: float | None = None
    stale_if_error_s: float | None = None
    keep_s: float = KEEP_S
    key: KeyRule = KeyRule()
    bypass: Conditions = NO_CONDITIONS
    no_store: Conditions = NO_CONDITIONS
    ignore: frozenset[bytes] = frozenset()
    targets: tuple[bytes, ...] = (b"cdn-cache-control",)
    largest_bytes: int = LARGEST_BYTES
    slice_bytes: int = 0
    ignored_cookies: re.Pattern[bytes] | None = None
    overrides: tuple[Override, ...] = ()
    pass_tags: bool = False
    lifetime_id: int = 0
    storing_id: int = 0
