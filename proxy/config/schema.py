"""What proxy.toml may say: its tables, keys, defaults and what they mean.

The only source of defaults and of their documentation: the text under each field is what the
reference table in the README and the JSON Schema show. A default is written as a person would write
it. Reading the file, and the wording of errors, is the business of `load`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from proxy.config.backends import App, Upstream
from proxy.config.cache import CACHE_SECTIONS, Cache
from proxy.config.control import Control
from proxy.config.kinds import (
    AccessLogTarget,
    CheckInterval,
    Count,
    Duration,
    ErrorLogTarget,
    FilePath,
    Flag,
    ListenAddress,
    Network,
    PositiveSize,
    Reading,
    Size,
    Table,
    TargetName,
    UpstreamName,
    Workers,
    default,
    distinct,
    some,
)
from proxy.config.locate import Source
from proxy.config.routes import FilesRoute, Route, ToRoute
from proxy.config.tls import HstsSetting, RedirectSetting, TlsSetting


class Server(Table):
    """The processes of proxyd itself."""

    workers: Workers = default("auto")
    """Worker processes, each one event loop; "auto" is one per CPU that proxyd may use. More than
    CPUs gain nothing. Precedent: nginx `worker_processes auto`."""

    user: str | None = None
    """When started as root, workers and apps become this user for good: setuid programs that they
    start (sudo) gain nothing. Without it proxyd does not start as root, unless it is told to
    (`proxyd run --allow-root`). Of no effect when not started as root. Precedent: nginx `user`."""

    group: str | None = None
    """The group that goes with `user`, which it needs; without it, the user's own group."""

    state_dir: FilePath = default("var")
    """The folder for the pid file, the apps' sockets and spooled bodies; made when it is not there,
    with folders in it that are for `user` alone, who must be able to enter it."""

    server_header: Flag = True
    """Whether answers carry `Server: proxyd`. Precedent: nginx `server_tokens`, Caddy
    `header -Server`."""

    trusted_proxies: tuple[Network, ...] = ()
    """Networks in CIDR notation, or "unix:", whose `X-Forwarded-*`, Forwarded, X-Request-ID and
    PROXY protocol are believed; from others they are replaced. Danger: whoever is in it can claim
    any client address. Precedent: nginx `set_real_ip_from`, Caddy `trusted_proxies`."""

    worker_connections: Count = 8192
    """Client connections of one worker. Past it, the one that has been idle longest is closed for
    a new one; when none is idle, the new one is. Each needs a file descriptor, and another one
    upstream: see `ulimit -n`. Precedent: nginx `worker_connections` 512, Caddy none."""

    dev: Flag = False
    """Whether proxyd reloads when a file of the configuration or of an app changes, and cuts off
    what the old processes still do. For development only: it looks at every file each second.
    Precedent: `flask run --debug`, uvicorn `--reload`."""

    def worker_count(self) -> int:
        """Return `workers` as a number: "auto" is the CPUs that this process may use."""
        if isinstance(self.workers, int):
            return self.workers
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


class Listen(Table):
    """One address on which clients are served."""

    address: ListenAddress
    """"host:port", "[v6]:port" or "unix:path". "127.0.0.1:…" is this machine only; "0.0.0.0:…" and
    "[::]:…" are every interface. Port 0 lets the system choose. Ports below 1024 need root or
    CAP_NET_BIND_SERVICE."""

    proxy_protocol: Flag = False
    """Whether each connection begins with a PROXY protocol header (v1 or v2), which names the real
    client. Only peers in `trusted_proxies` may connect then. Precedent: nginx
    `listen … proxy_protocol`."""

    backlog: Count = 1024
    """Connections that the system holds until a worker accepts them; capped by
    net.core.somaxconn. Precedent: Waitress `backlog` 1024, nginx 511."""

    tls: TlsSetting | None = None
    """The certificate with its chain and the key, both PEM: `{ certificate = "cert.pem", key =
    "key.pem" }`. Of a list of these each connection gets the one with the name that it asks for
    (SNI), and the first when there is none. "internal" makes a certificate for development, signed
    by an authority of its own in `state_dir`/tls. Files that change are read again within two
    seconds, as the user that started proxyd. Precedent: nginx `ssl_certificate`, Caddy `tls`."""

    tls_profile: Literal["intermediate", "modern"] = "intermediate"
    """"intermediate" is TLS 1.2 and 1.3 with forward secrecy and AEAD only, for every browser in
    use; "modern" is TLS 1.3 alone. Precedent: Mozilla's Server Side TLS, 6.0."""

    client_ca: FilePath | None = None
    """The authorities (PEM) whose client certificates are accepted here. The application learns
    who it is from Client-Cert (RFC 9440) and X-Client-Cert-Verify (SUCCESS or NONE), -Subject,
    -Issuer, -Serial and -Fingerprint (SHA-256), which nobody outside can set. Precedent: nginx
    `ssl_client_certificate`."""

    client_certificate: Literal["required", "optional"] = "required"
    """With `client_ca`: whether clients without a certificate are refused. Precedent: nginx
    `ssl_verify_client`."""

    hsts: HstsSetting | None = None
    """How long browsers shall use nothing but https for this host, such as "365d" or "365d
    includeSubDomains"; sent on every answer over TLS whose route or application does not set
    Strict-Transport-Security itself. Danger: it cannot be taken back before that time.
    Precedent: Mozilla recommends "730d"."""

    https_redirect: RedirectSetting = False
    """Whether requests that come over http are sent to https (308): `true` is the port of the first
    [[listen]] with `tls`, or 443; a number is the port that clients see. Precedent: Caddy's
    automatic redirects."""


class Limits(Table):
    """What one request may need; each of these bounds memory."""

    request_line: PositiveSize = default("8KiB")
    """Method, target and version; 414 past it. RFC 9112 §3 asks for at least 8000 bytes.
    Precedent: nginx `large_client_header_buffers` 8k, Apache `LimitRequestLine` 8190."""

    headers: PositiveSize = default("32KiB")
    """All field lines together; 431 past it. Precedent: nginx 4 of 8k, node 16 KiB."""

    header_count: Count = 100
    """Field lines; 431 past it. Precedent: Apache `LimitRequestFields` 100."""

    body: PositiveSize = default("1GiB")
    """A request's body; 413 past it. It goes to `state_dir` past 64 KiB, so this bounds disk. "0"
    is refused, because it means "unlimited" in nginx and "nothing" elsewhere: write a large size. A
    route may have its own, `body_limit`. Precedent: Waitress `max_request_body_size` 1 GiB, nginx
    `client_max_body_size` 1m."""

    chunk_line: PositiveSize = default("4KiB")
    """The line before each chunk, with its extensions; 400 past it. Precedent: Apache 8190,
    node 16 KiB for all extensions."""

    trailers: PositiveSize = default("8KiB")
    """The field lines behind a chunked body; 431 past it. Precedent: Apache
    limits them as it does header fields."""

    handshakes: Count = 512
    """TLS handshakes of one worker that are not complete; past it the oldest is closed for a new
    one. Precedent: TCP's own SYN queue, which does the same."""

    pipeline_buffer: PositiveSize = default("64KiB")
    """Bytes read from a client ahead of the request that is being answered; past it the connection
    is not read until that is done. Precedent: asyncio's write limit of 64 KiB."""


class Timeouts(Table):
    """How long proxyd waits for clients, and for itself at the end."""

    header: Duration = default("20s")
    """From the first byte of a request to the end of its head; 408 past it. What keeps Slowloris
    out. Precedent: Apache mod_reqtimeout `header=20`, nginx `client_header_timeout` 60s."""

    handshake: Duration = default("10s")
    """A whole TLS handshake; then the connection is closed. Precedent: Go's `TLSHandshakeTimeout`
    10s, nginx `client_header_timeout` 60s."""

    body: Duration = default("60s")
    """Between two reads of a request's body, not for all of it; 408 past it. Precedent: nginx
    `client_body_timeout` 60s."""

    keepalive: Duration = default("75s")
    """An idle connection between two requests. Precedent: nginx `keepalive_timeout` 75s, Apache
    5s."""

    send: Duration = default("60s")
    """Without any progress in sending an answer; then the connection is closed. Precedent: nginx
    `send_timeout` 60s."""

    tunnel: Duration = default("1h")
    """A WebSocket or other tunnel on which neither side sends. Precedent: HAProxy `timeout tunnel`
    1h, nginx 60s."""

    linger: Duration = default("5s")
    """How long a client that is still sending is read after its answer, so that it can see it; over
    TLS, how long its end is waited for after ours. Precedent: nginx `lingering_timeout` 5s."""

    shutdown: Duration = default("30s")
    """What requests in progress get when proxyd stops or reloads; then they are cut. Precedent:
    gunicorn `graceful_timeout` 30s, nginx `worker_shutdown_timeout` none."""

    heartbeat: Duration = default("30s")
    """How long a worker may not move; then the stack of its threads goes to the log, and another
    one takes its place. Precedent: gunicorn `timeout` 30s."""


class Files(Table):
    """How static files are kept in memory; each worker has its own copies."""

    memory: Size = default("64MiB")
    """All small files and their compressed forms, per worker; the least used go first. "0" keeps
    nothing. Precedent: Varnish `malloc`, Apache mod_file_cache."""

    small_file: Size = default("1MiB")
    """Up to this size a file is kept in memory; larger ones are read as they are sent. Precedent:
    Apache `CacheMaxFileSize` 1000000."""

    check_interval: CheckInterval = default("1s")
    """How long a file in memory is believed before the disk is asked again; at most 1s. Not for
    files that applications name, which are looked at each time. Precedent: nginx
    `open_file_cache_valid` 60s."""

    compress_min: Size = default("1KiB")
    """Smaller files are not compressed: they fit one packet anyway. Precedent: nginx
    `gzip_min_length` 20, Caddy `minimum_length` 512, Express's `threshold` 1kb."""


class Log(Table):
    """Where proxyd writes what happened. Files are opened again on SIGUSR1."""

    access: AccessLogTarget = default("-")
    """One line for each request: a path, "-" for standard output, or "off"."""

    format: Literal["combined", "json"] = "combined"
    """"combined" is Apache's, with timings at the end; "json" is one object on each line."""

    error: ErrorLogTarget = default("-")
    """What went wrong and what to do about it, and what the apps print: a path, or "-" for standard
    error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe messages in the error log. Precedent: nginx `error_log … error`."""

    flush_interval: Duration = default("1s")
    """How long a line of the access log may wait in memory. Precedent: nginx
    `access_log … flush=1s`."""

    buffer: PositiveSize = default("64KiB")
    """Lines of the access log that wait in memory, per worker; written at once when full.
    Precedent: nginx `access_log … buffer=64k`."""


class Config(Table):
    """The whole of proxy.toml. Relative paths in it begin at its own folder."""

    server: Server = default({})
    listen: Annotated[
        tuple[Listen, ...],
        AfterValidator(some("one [[listen]]")),
        AfterValidator(distinct),
        Field(json_schema_extra={"minItems": 1}),
    ] = default([{"address": "127.0.0.1:8080"}])
    control: Control = default({})
    limits: Limits = default({})
    timeouts: Timeouts = default({})
    files: Files = default({})
    cache: Cache = default({})
    log: Log = default({})
    app: dict[TargetName, App] = default({})
    upstream: dict[UpstreamName, Upstream] = default({})
    route: Annotated[
        tuple[Route, ...],
        AfterValidator(some("one [[route]]")),
        Field(json_schema_extra={"minItems": 1}),
    ]

    _source: Source = PrivateAttr()

    @classmethod
    def read(cls, data: dict[str, Any], source: Source) -> "Config":
        """Validate what tomllib made of the file; pydantic's ValidationError has every mistake."""
        apps, upstreams = (
            frozenset(table) if isinstance(table := data.get(key), dict) else frozenset()
            for key in ("app", "upstream")
        )
        reading = Reading(
            source=source, apps=apps, targets=apps | upstreams, mounts=read_mounts(data.get("app"))
        )
        config = cls.model_validate(data, context=reading)
        config._source = source
        return config

    @property
    def source(self) -> Source:
        """The file, and the line of each key."""
        return self._source

    @property
    def folder(self) -> Path:
        """The folder of proxy.toml, where relative paths begin."""
        return self._source.file.parent

    @property
    def cache_folder(self) -> Path:
        """Where the cache is on disk, and its purges in any case."""
        return self.cache.folder or self.server.state_dir / "cache"

    @property
    def uses_cache(self) -> bool:
        """Whether any route has a cache."""
        return any(isinstance(route, ToRoute) and route.cache.enabled for route in self.route)


def read_mounts(apps: object) -> dict[str, str]:
    """Return the `mount` of each app, as it is written."""
    tables = apps.items() if isinstance(apps, dict) else ()
    return {
        name: table["mount"]
        for name, table in tables
        if isinstance(table, dict) and isinstance(table.get("mount"), str)
    }


# The tables by the heading that a person writes, in the order of the reference.
SECTIONS: dict[str, type[Table]] = {
    "[server]": Server,
    "[[listen]]": Listen,
    "[control]": Control,
    "[limits]": Limits,
    "[timeouts]": Timeouts,
    "[files]": Files,
    "[log]": Log,
    "[app.NAME]": App,
    "[upstream.NAME]": Upstream,
    "[[route]] with files": FilesRoute,
    "[[route]] with to": ToRoute,
    **CACHE_SECTIONS,
}
