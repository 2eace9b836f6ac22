"""The cache, as proxy.toml has it: where it is kept, and what each route wants of it.

Nothing here makes two people see one page unless its text says so.
"""

from pydantic import ValidationInfo, field_validator, model_validator

from proxy.config.cache_kinds import (
    CookieCondition,
    CookieName,
    CookiePattern,
    FieldCondition,
    FieldName,
    Ignorable,
    KeyField,
    Lifetime,
    MediaTypes,
    Method,
    ParameterCondition,
    ParameterPattern,
    Paths,
    SliceSize,
    Statuses,
    StatusName,
)
from proxy.config.kinds import (
    Duration,
    FilePath,
    Flag,
    Hosts,
    Network,
    PositiveSize,
    Size,
    Table,
    default,
)

LIFETIMES = (
    "default_ttl",
    "force_ttl",
    "min_ttl",
    "max_ttl",
    "stale_while_revalidate",
    "stale_if_error",
    "keep",
)


class Cache(Table):
    """Where answers are kept. What is kept, and for how long, is said in [route.cache]."""

    memory: Size = default("128MiB")
    """All that one worker keeps in memory; what was used least recently goes first. "0" keeps
    nothing there. Precedent: Varnish `-s malloc,256M`, Squid `cache_mem` 256 MB."""

    disk: Size = default("1GiB")
    """All that is kept on disk, by all workers together; what was used least recently goes first.
    It is still there after a restart. "0" keeps the cache in memory alone. Precedent: nginx
    `max_size` of `proxy_cache_path`."""

    folder: FilePath | None = None
    """Where on disk, in a folder that is for nothing else and that `user` can write to; without it,
    "cache" in `state_dir`. Precedent: nginx `proxy_cache_path`."""

    memory_object: PositiveSize = default("1MiB")
    """Larger answers are kept on disk alone, or not at all when `disk` is "0". Precedent: Squid
    `maximum_object_size_in_memory` 512 KB."""

    memory_copies: Size = default("64MiB")
    """Beside `memory`, what one worker keeps there of larger answers that are asked for twice in a
    minute: copied and checked once, then sent by the kernel. One takes a quarter of it at the most.
    "0" reads and checks the file each time, and so do `memory` "0" and systems other than Linux.
    Precedent: Varnish, whose memory holds large objects as well."""

    purge_from: tuple[Network, ...] = ()
    """Networks in CIDR notation, or "unix:", whose PURGE requests empty the cache; others get 403.
    Without any, PURGE is a method like others, for the application. `proxyd cache purge` needs none
    of it. Danger: whoever is in it can make every request go to the application. Precedent:
    Varnish's `acl purge`."""


class QueryKey(Table):
    """Which parameters of the query are in the key. The application gets no others either."""

    keep: tuple[ParameterPattern, ...] | None = None
    """The only ones that count, such as ["page", "q"]; [] is none at all. Without it, all. Danger:
    a parameter that is not named here is not seen by the application. Precedent: Varnish's
    querystring.filter_except."""

    ignore: tuple[ParameterPattern, ...] = ()
    """Those that do not count, such as ["utm_*", "fbclid"]. Danger: as with `keep`. That the
    application does not see them is what keeps somebody from putting one into a page for all (web
    cache poisoning), which is what nginx and Varnish leave to you. Precedent: Varnish's
    querystring.filter."""

    sort: Flag = False
    """Whether the order of parameters does not count: they are put in the order of their names, and
    those of one name stay as they are. Precedent: Varnish's `std.querysort`."""

    @field_validator("ignore")
    @classmethod
    def not_with_keep(cls, ignore: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Check that only one of the two lists is there."""
        if ignore and info.data.get("keep") is not None:
            raise ValueError("says nothing beside `keep`, which names all that count; take one out")
        return ignore


class CacheKey(Table):
    """What tells one answer from another, besides the path and what Vary names."""

    query: QueryKey = default({})
    """Which query parameters count, as `{ keep = […] }` or `{ ignore = […], sort = true }`. By
    default the query counts as it is written."""

    cookies: tuple[CookieName, ...] = ()
    """Cookies whose values are in the key, such as ["lang"]. Danger: with a session's cookie every
    visitor has copies of their own, and its value can be read in keys. Precedent: nginx `$cookie_…`
    in `proxy_cache_key`."""

    headers: tuple[KeyField, ...] = ()
    """Request fields whose values are in the key, such as ["X-Country"], when the application does
    not name them in Vary, where they belong. Precedent: nginx `$http_…` in `proxy_cache_key`."""

    host: Flag = True
    """Whether each host has its own answers. Danger: without it, whoever asks first, by whatever
    Host, decides about links in pages for everybody; only for a route whose `host` is set, or that
    looks at no host. Precedent: nginx's `$proxy_host`, which is the upstream's name and has this
    danger by default."""

    scheme: Flag = True
    """Whether http and https have their own answers. Danger: without it, a redirect to https is
    stored for https, too, and never ends. Precedent: nginx `$scheme`."""


class CacheConditions(Table):
    """Which requests are meant; one of these conditions is enough."""

    cookies: tuple[CookieCondition, ...] = ()
    """"name" or "name=value", where one star stands for anything: ["session", "wordpress_*"].
    Precedent: nginx `proxy_cache_bypass $cookie_session`."""

    headers: tuple[FieldCondition, ...] = ()
    """"Name" or "Name: value" of request fields; the value may have one star. Precedent: nginx
    `$http_…`."""

    query: tuple[ParameterCondition, ...] = ()
    """"name" or "name=value" of query parameters, decoded; one star stands for anything. Precedent:
    nginx `$arg_…`."""

    paths: Paths = ()
    """`/exact` or `/prefix/*`, as the `path` of a route, one or a list of them. Precedent: Varnish
    `req.url ~`."""

    methods: tuple[Method, ...] = ()
    """"GET" or "HEAD"; of others nothing is stored anyway."""


class CacheRules(Table):
    """Other lifetimes for some answers of a route: of the first of these tables that fits.

    All of `path`, `host`, `status` and `type` that are there must fit. What is not said here, the
    route says.
    """

    path: Paths | None = None
    """`/exact` or `/prefix/*`, one or a list of them, within the `path` of the route."""

    host: Hosts | None = None
    """`example.com` or `*.example.com`, one or a list of them."""

    status: Statuses | None = None
    """404 or "5xx", one or a list of them. `default_ttl` and `force_ttl` beside it are for these,
    also when they are errors."""

    type: MediaTypes | None = None
    """The media type of the answer, `text/html` or `image/*`, one or a list of them."""

    default_ttl: Lifetime | None = None
    """As `default_ttl` of [route.cache]."""

    force_ttl: Duration | None = None
    """As `force_ttl` of [route.cache], with the same danger."""

    min_ttl: Lifetime | None = None
    """As `min_ttl` of [route.cache], with the same danger."""

    max_ttl: Lifetime | None = None
    """As `max_ttl` of [route.cache]."""

    stale_while_revalidate: Lifetime | None = None
    """As `stale_while_revalidate` of [route.cache]."""

    stale_if_error: Lifetime | None = None
    """As `stale_if_error` of [route.cache]."""

    keep: Lifetime | None = None
    """As `keep` of [route.cache]."""

    @model_validator(mode="after")
    def says_something(self) -> "CacheRules":
        """Check that there is a lifetime."""
        if all(getattr(self, name) is None for name in LIFETIMES):
            raise ValueError(f"changes nothing; it needs one of {', '.join(LIFETIMES)}")
        return self


class RouteCache(Table):
    """What may be reused of the answers of a route.

    Without any of this: what the answers themselves allow, by RFC 9111. An answer that does not
    call itself `public`, and has no `s-maxage`, is only for requests with the same cookies and the
    same Authorization.
    """

    enabled: Flag = True
    """Whether this route is cached at all. Precedent: nginx `proxy_cache off`, which is the
    default there."""

    default_ttl: Lifetime | None = None
    """How long an answer is fresh that says nothing about it; also a 404 or 410, for which there is
    `status_ttl`. Without it, a tenth of the time since Last-Modified, at most a day (RFC 9111
    §4.2.2); "0s" turns that off. Precedent: Varnish `default_ttl` 2m, nginx `proxy_cache_valid`."""

    force_ttl: Duration | None = None
    """How long an answer that may be stored is fresh, whatever lifetime it states; errors have
    `status_ttl`. It keeps nothing that says `no-store` or `private`: for that see `ignore`. Danger:
    what changes meanwhile is seen only after a purge. Precedent: Varnish `beresp.ttl`."""

    min_ttl: Lifetime = default("0s")
    """An answer that states a shorter lifetime gets this one; not errors. Danger: somebody meant
    what `max-age=0` says. Precedent: Squid `refresh_pattern` min."""

    max_ttl: Lifetime | None = None
    """An answer that states a longer lifetime gets this one. Precedent: Squid `refresh_pattern`
    max."""

    status_ttl: dict[StatusName, Lifetime] = default({})
    """As `default_ttl`, by status: `{ 404 = "10s", 5xx = "1s" }`; a status counts more than its
    hundred. Nothing else makes an error of 500 and above stay that does not ask for it. Precedent:
    nginx `proxy_cache_valid 404 1m`."""

    stale_while_revalidate: Lifetime | None = None
    """How long past its lifetime an answer that does not say so itself is still used, while it is
    refreshed in the background. Without it, not at all. Not for `must-revalidate`, `no-cache` and
    `s-maxage` (RFC 9111 §4.2.4). Precedent: RFC 5861, Varnish `default_grace` 10s, nginx
    `proxy_cache_use_stale updating`."""

    stale_if_error: Lifetime | None = None
    """How long past its lifetime an answer that does not say so itself is used when the upstream
    fails (no connection, 500, 502, 503, 504). Without it, not at all. Not for those named above.
    Precedent: RFC 5861, nginx `proxy_cache_use_stale error timeout`."""

    keep: Lifetime = default("1d")
    """How long past all that an answer stays, so that the upstream can say that it is still good
    (304). Precedent: Varnish `default_keep` 0s, nginx `inactive` 10m."""

    key: CacheKey = default({})
    """What tells one answer from another: see [route.cache.key]."""

    ignore_cookies: tuple[CookiePattern, ...] = ()
    """Cookies that do not matter, such as ["_ga", "_ga_*"]; one star stands for anything. They are
    not compared where cookies are, and where an answer may be for others, too, the application does
    not get them, so that they cannot matter by accident. ["*"] is all but those in the key: for
    sites that know no users. Danger: without a session's cookie everybody is signed out for the
    application; write that one into `bypass`. Precedent: Varnish `unset req.http.Cookie`."""

    bypass: CacheConditions = default({})
    """Requests that go past the cache: nothing stored is used, and their answers are not stored
    either. (In nginx these are two settings, and forgetting the second shows one person's page to
    all.) Precedent: nginx `proxy_cache_bypass` with `proxy_no_cache`, Varnish `return (pass)`."""

    no_store: CacheConditions = default({})
    """Requests that get what is stored, but whose answers are not stored. Precedent: nginx
    `proxy_no_cache`."""

    ignore: tuple[Ignorable, ...] = ()
    """Fields whose word to the cache does not count, for applications that cannot be changed.
    "cache-control", "expires", "pragma": `default_ttl` then speaks in their place. Danger:
    `private` and `no-store` do not count either; cookies still tell people apart. "set-cookie": an
    answer that sets a cookie may be stored, without that cookie, when it is `public`, has
    `s-maxage`, or there is `force_ttl`. Danger: who gets it from the cache gets no session.
    "vary": of it, only Cookie and Authorization count. Danger: one language, or one encoding, for
    all. "authorization": answers to requests with Authorization may be stored, for the same
    Authorization alone unless they are `public`. "request-cache-control": what clients ask of the
    cache, such as with a reload. Danger: nobody can ask for a fresh answer. Precedent: nginx
    `proxy_ignore_headers`, where the cookie goes to everybody."""

    largest_object: PositiveSize = default("128MiB")
    """Larger answers go through without being stored. Precedent: Squid `maximum_object_size` 4 MB,
    nginx `proxy_max_temp_file_size` 1g."""

    slice: SliceSize = default(False)
    """For large files that are asked for in parts: they are fetched and stored in slices of this
    size, such as "1MiB", at least "64KiB"; `false` is whole. Slices are put together only when a
    strong ETag says that they are of one file. Precedent: nginx `slice` 0."""

    targets: tuple[FieldName, ...] = ("CDN-Cache-Control",)
    """Fields that speak to this cache alone; the first that is there counts in place of
    Cache-Control and Expires. Precedent: RFC 9213."""

    tags_to_client: Flag = False
    """Whether clients see Cache-Tag, Surrogate-Key and xkey, which name what is purged together.
    Precedent: Fastly removes them, Varnish's vmod xkey does not."""

    rules: tuple[CacheRules, ...] = ()
    """Other lifetimes for some answers, by path, host, status and type: [[route.cache.rules]], the
    first that fits."""

    @field_validator("max_ttl")
    @classmethod
    def not_below_min(cls, max_ttl: float | None, info: ValidationInfo) -> float | None:
        """Check that there is a lifetime between the two."""
        if max_ttl is not None and max_ttl < info.data.get("min_ttl", 0):
            raise ValueError("is shorter than `min_ttl`")
        return max_ttl


CACHE_SECTIONS: dict[str, type[Table]] = {
    "[cache]": Cache,
    "[route.cache]": RouteCache,
    "[route.cache.key]": CacheKey,
    "[route.cache.key.query]": QueryKey,
    "[route.cache.bypass]": CacheConditions,
    "[route.cache.no_store]": CacheConditions,
    "[[route.cache.rules]]": CacheRules,
}
