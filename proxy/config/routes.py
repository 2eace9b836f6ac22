"""The routes of proxy.toml: which paths of which hosts are answered from files, which passed on."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from proxy.config.cache import RouteCache
from proxy.config.kinds import (
    Duration,
    FieldValue,
    FilePath,
    Flag,
    Hosts,
    IndexName,
    KnownTarget,
    PathPattern,
    PositiveSize,
    ResponseFields,
    SizeOrOff,
    Table,
    TryPath,
    default,
    reading,
)


class RouteBase(Table):
    """What every route has. The first route that matches answers."""

    path: PathPattern
    """`/exact`, or `/prefix/*` for `/prefix` and everything below; whole segments, a star only at
    the end; `/*` is everything. Compared with the decoded, normalised path. Precedent: Caddy's
    path matcher."""

    host: Hosts | None = None
    """One name or a list of them: `example.com`, or `*.example.com` for everything below it.
    Without it, any host. Precedent: nginx `server_name`."""

    headers: ResponseFields = default({})
    """Fields that are set on every answer of this route, in place of those of the same name.
    Precedent: nginx `add_header … always`, Caddy `header`."""

    server_timing: Flag = False
    """Whether answers say in Server-Timing where their time went, in milliseconds: `accept`, what
    the cache did (`cache`), `queue`, `connect`, `upstream` and `total`, and of an app with `wsgi`
    `app` and `app_cpu`; browsers show it beside the request. Danger: it tells everybody how busy
    the site is, and what is in its cache. Precedent: W3C Server Timing, Varnish `std.timestamp`."""


class FilesRoute(RouteBase):
    """A route that answers from a folder, without the application."""

    files: FilePath
    """The folder. The part of the path that the star stands for is looked up below it, and nothing
    outside it is ever served."""

    index: tuple[IndexName, ...] = ("index.html",)
    """Files that answer for a folder, the first that exists. Precedent: nginx `index`."""

    try_files: tuple[TryPath, ...] = Field(default=(), alias="try")
    """What to look for, in this order, below `files`; "{path}" is the requested path. A single-page
    application has ["{path}", "/index.html"]. Precedent: nginx `try_files`."""

    listing: Flag = False
    """Whether a folder without an index file is listed. Danger: shows every name in it. Precedent:
    nginx `autoindex` off."""

    dotfiles: Flag = False
    """Whether names that begin with a dot are served; `.well-known` always is. Danger: .git, .env.
    Precedent: Apache's rule for .ht files."""

    compress: Flag = True
    """Whether text is compressed (br, zstd, gzip), once, and kept in memory. Precedent: nginx
    `gzip` off, Caddy `encode`."""

    precompressed: Flag = True
    """Whether `name.br`, `name.zst` and `name.gz` beside a file are sent in its place. Precedent:
    nginx `gzip_static` off, Caddy `precompressed`."""

    cache_control: FieldValue | None = None
    """The Cache-Control of every file of this route, such as "max-age=3600". Without it, names with
    a fingerprint (app.3f2a9c1b.js) get a year and `immutable`, others must be revalidated."""


class ToRoute(RouteBase):
    """A route that passes requests on."""

    to: KnownTarget
    """The name of an app or an upstream."""

    buffer_request: Flag = True
    """Whether a body is taken in full before the server sees any of it, so that a slow client holds
    no thread. Turn it off for uploads that are processed as they arrive. Precedent: nginx
    `proxy_request_buffering` on."""

    buffer_response: SizeOrOff = default("64MiB")
    """How much of an answer is taken from the server ahead of a slow client, past 64 KiB on disk;
    then the server is held back. `false` holds it back from the start. Streams of unknown length
    go straight through. Precedent: nginx `proxy_max_temp_file_size` 1024m."""

    body_limit: PositiveSize | None = None
    """A request's body on this route; 413 past it. Without it, `body` of [limits]."""

    strip_prefix: Flag = False
    """Whether the prefix of `path` is taken off before the request is passed on; the application
    learns it from X-Forwarded-Prefix. Precedent: Caddy `handle_path`."""

    read_timeout: Duration | None = None
    """As `read_timeout` of the app or upstream, which holds without it. Precedent: nginx
    `proxy_read_timeout` in a location."""

    total_timeout: Duration | None = None
    """As `total_timeout` of the app or upstream, which holds without it. Precedent: Envoy's
    `timeout` of a route."""

    cache: RouteCache = default({})
    """What may be reused of its answers: see [route.cache]. By default what they allow themselves
    (RFC 9111)."""

    @field_validator("to")
    @classmethod
    def lies_below_its_mount(cls, to: str, info: ValidationInfo) -> str:
        """Check that every request of the route is below the `mount` of its app."""
        mount, path = reading(info).mounts.get(to), info.data.get("path")
        if mount and path and not within(path.removesuffix("/*"), f"{mount}/*"):
            raise ValueError(
                f'"{to}" lives below "{mount}", and "{path}" is elsewhere; write path = "{mount}/*"'
            )
        return to

    @field_validator("strip_prefix")
    @classmethod
    def has_a_prefix(cls, strip: bool, info: ValidationInfo) -> bool:
        """Check that there is something to strip."""
        if strip and info.data.get("to") in reading(info).mounts:
            raise ValueError("is of no use here: the `mount` of the app is taken off already")
        path = info.data.get("path", "/prefix/*")
        if strip and (path == "/*" or not path.endswith("/*")):
            raise ValueError(f'needs a path such as "/prefix/*"; "{path}" has no prefix')
        return strip

    @field_validator("cache")
    @classmethod
    def about_its_paths(cls, cache: RouteCache, info: ValidationInfo) -> RouteCache:
        """Check that the paths in it are whole paths, which requests of this route have."""
        route = info.data.get("path", "/*")
        named = [path for rule in cache.rules for path in rule.path or ()]
        for path in (*named, *cache.bypass.paths, *cache.no_store.paths):
            if not within(path, route):
                raise ValueError(f'"{path}" is outside of "{route}"; write whole paths')
        return cache


def within(path: str, route: str) -> bool:
    """Say whether requests of `path` come to a route of the path `route`."""
    if not route.endswith("/*"):
        return path == route
    return path == route[:-2] or path.startswith(route[:-1])


FILES_ONLY = FilesRoute.model_fields.keys() - RouteBase.model_fields.keys() | {"try"}


def route_kind(route: object) -> str:
    """Say which of the two kinds a route is meant to be, right or wrong."""
    if isinstance(route, Mapping) and "files" not in route:
        return "files" if "to" not in route and FILES_ONLY & route.keys() else "to"
    return "files" if isinstance(route, Mapping | FilesRoute) else "to"


Route = Annotated[
    Annotated[FilesRoute, Tag("files")] | Annotated[ToRoute, Tag("to")],
    Discriminator(route_kind),
]
