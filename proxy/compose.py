"""Config → running parts: routes with their steps, upstream groups, logs; again on reload."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from typing import assert_never

from proxy.clock import Clock
from proxy.compose_cache import cache_rule
from proxy.config.backends import App, Upstream
from proxy.config.routes import FilesRoute, ToRoute
from proxy.config.schema import Config, Listen
from proxy.files.catalog import Catalog
from proxy.files.memory import FileMemory
from proxy.files.options import CatalogOptions
from proxy.message import FieldLine
from proxy.observe.access_log import AccessLog
from proxy.pipeline.entrance import OPEN, Entrance
from proxy.pipeline.forward import forward
from proxy.pipeline.lookup import lookup
from proxy.pipeline.sendfile import FilesBelow, files_below
from proxy.pipeline.site import Route, Site
from proxy.pipeline.static import static
from proxy.pipeline.timing import tell_times
from proxy.protocol.limits import ClientLimits
from proxy.protocol.tls import Policy
from proxy.rules.forwarding import TrustedNetworks
from proxy.rules.health import EjectionRules
from proxy.upstream.address import Address, TcpAddress, UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from proxy.upstream.resolve import Resolver

# A process that proxyd starts is back within seconds, and its socket is on this machine.
APP_EJECTION = EjectionRules(first_s=0.5, longest_s=1.0)


class Parts:
    """What a worker runs: the site, and what has to be swept and closed."""

    __slots__ = ("_sendfile", "access_log", "catalogs", "groups", "site")

    def __init__(
        self, config: Config, app_sockets: Mapping[str, Sequence[Path]], clock: Clock
    ) -> None:
        self.access_log = AccessLog(
            str(config.log.access), config.log.format, config.log.buffer, clock
        )
        self.groups = make_groups(config, app_sockets)
        self.catalogs: list[Catalog] = []
        memory = FileMemory(config.files.memory)
        backends: dict[str, App | Upstream] = {**config.app, **config.upstream}
        self._sendfile = {
            name: self._files_below(config, backend, memory) for name, backend in backends.items()
        }
        routes = tuple(self._route(config, route, memory) for route in config.route)
        self.site = Site(
            routes,
            TrustedNetworks(config.server.trusted_proxies),
            self.access_log,
            server_header=config.server.server_header,
            temp_folder=str(temp_folder(config)),
            tunnel_timeout_s=config.timeouts.tunnel,
        )
        if config.cache.purge_from:
            self.site.purge_from = TrustedNetworks(config.cache.purge_from)

    def _route(self, config: Config, given: FilesRoute | ToRoute, memory: FileMemory) -> Route:
        path = given.path.encode()
        headers = header_lines(given)
        match given:
            case FilesRoute():
                route = Route(f"route {given.path}", static, path)
                route.catalog = make_catalog(config, given, headers, memory)
                self.catalogs.append(route.catalog)
            case ToRoute():
                route = Route(f"route {given.path}", forward, path)
                route.group = self.groups[given.to]
                route.sendfile = self._sendfile[given.to]
                route.buffer_request = given.buffer_request
                route.buffer_response = given.buffer_response
                route.read_timeout_s = given.read_timeout
                route.total_timeout_s = given.total_timeout
                if given.strip_prefix:
                    route.strip_prefix = route.prefix[:-1]
                elif given.to in config.app:
                    route.strip_prefix = (config.app[given.to].mount or "").encode()
                route.body_limit = given.body_limit or config.limits.body
                if given.to in config.app:
                    route.private_lines = patience(given)
                route.cache = cache_rule(given.cache)
                if route.cache is not None:
                    route.step = lookup
            case _:
                assert_never(given)
        if given.server_timing:
            tell_times(route, managed=isinstance(given, ToRoute) and is_served(config, given.to))
        if route.cache is not None:
            route.bare = bare(route)
        route.headers = headers
        route.header_names = frozenset(name.lower() for name, _ in headers)
        hosts = [host.encode() for host in given.host or ()]
        route.hosts = frozenset(host for host in hosts if not host.startswith(b"*"))
        route.host_suffixes = tuple(host[1:] for host in hosts if host.startswith(b"*"))
        return route

    def _files_below(
        self, config: Config, backend: App | Upstream, memory: FileMemory
    ) -> tuple[FilesBelow, ...]:
        """Return where a server may name files, the deepest prefix first."""
        made = []
        for prefix, folder in sorted(backend.sendfile.items(), reverse=True):
            catalog = Catalog(folder, sendfile_options(config), memory)
            self.catalogs.append(catalog)
            made.append(files_below(prefix, folder, catalog))
        return tuple(made)

    def close(self) -> None:
        """Write what is left, let idle connections go."""
        for group in self.groups.values():
            group.close()
        for catalog in self.catalogs:
            catalog.close()
        self.access_log.close()


def is_served(config: Config, target: str) -> bool:
    """Say whether a WSGI server of ours runs what is called `target`."""
    return target in config.app and config.app[target].wsgi is not None


def bare(route: Route) -> Route:
    """Return the same route for what is fetched into the cache: with nothing of its clients'."""
    fetching = route.copied()
    fetching.step = forward
    fetching.cache = None
    fetching.buffer_response = 0
    return fetching


def client_limits(config: Config) -> ClientLimits:
    """Return the bounds of client connections."""
    limits, timeouts = config.limits, config.timeouts
    return ClientLimits(
        request_line_bytes=limits.request_line,
        header_bytes=limits.headers,
        header_count=limits.header_count,
        chunk_line_bytes=limits.chunk_line,
        trailer_bytes=limits.trailers,
        pipeline_bytes=limits.pipeline_buffer,
        handshakes=limits.handshakes,
        handshake_timeout_s=timeouts.handshake,
        header_timeout_s=timeouts.header,
        body_timeout_s=timeouts.body,
        keepalive_timeout_s=timeouts.keepalive,
        send_timeout_s=timeouts.send,
        linger_timeout_s=timeouts.linger,
        worker_connections=config.server.worker_connections,
    )


def tls_policy(listen: Listen) -> Policy:
    """Return what a listener with TLS asks of its clients."""
    asks = "none" if listen.client_ca is None else listen.client_certificate
    return Policy(profile=listen.tls_profile, client_certificate=asks)


def entrance(config: Config, listen: Listen) -> Entrance:
    """Return what holds for every request of a listener."""
    if listen.tls is not None:
        if listen.hsts is None:
            return OPEN
        return Entrance(hsts_line=b"Strict-Transport-Security: %b\r\n" % listen.hsts.encode())
    if listen.https_redirect is True:
        return Entrance(https_port=https_port(config))
    return Entrance(https_port=listen.https_redirect) if listen.https_redirect else OPEN


def https_port(config: Config) -> int:
    """Return the port of the first listener with TLS, or the one that browsers take for granted."""
    for listen in config.listen:
        if listen.tls is not None and isinstance(listen.address, TcpAddress):
            return listen.address.port or 443
    return 443


def temp_folder(config: Config) -> Path:
    """Return where contents wait that are too large for memory."""
    return config.server.state_dir / "tmp"


def header_lines(route: FilesRoute | ToRoute) -> tuple[FieldLine, ...]:
    """Return the fields that a route sets on every answer."""
    return tuple((name.encode(), value.encode()) for name, value in route.headers.items())


def make_catalog(
    config: Config, route: FilesRoute, headers: tuple[FieldLine, ...], memory: FileMemory
) -> Catalog:
    """Return the files below a route's folder."""
    options = CatalogOptions(
        index=route.index,
        try_files=route.try_files,
        listing=route.listing,
        dotfiles=route.dotfiles,
        compress=route.compress,
        compress_min_bytes=config.files.compress_min,
        precompressed=route.precompressed,
        headers=headers,
        small_file_bytes=config.files.small_file,
        check_interval_s=config.files.check_interval,
    )
    if route.cache_control is not None:
        options = replace(options, cache_control=route.cache_control)
    return Catalog(route.files, options, memory)


def sendfile_options(config: Config) -> CatalogOptions:
    """Return how files are sent that an application names: as they are, and to nobody else's cache.

    Who named one may have looked at who asks, so a cache asks again unless the answer says better;
    and may have written it for this answer, so what is in memory is compared with the disk at once.
    """
    return CatalogOptions(
        index=(),
        dotfiles=True,
        compress=False,
        precompressed=False,
        immutable=False,
        small_file_bytes=config.files.small_file,
        check_interval_s=0.0,
    )


def patience(given: ToRoute) -> tuple[FieldLine, ...]:
    """Return what an application's own process must know of a route to see a request hang."""
    lines = (
        (b"X-Proxyd-Read-Timeout", given.read_timeout),
        (b"X-Proxyd-Total-Timeout", given.total_timeout),
    )
    return tuple((name, b"%g" % timeout_s) for name, timeout_s in lines if timeout_s)


def make_groups(config: Config, app_sockets: Mapping[str, Sequence[Path]]) -> dict[str, Group]:
    """Return the upstream groups: applications on their sockets, and other people's servers."""
    resolver = Resolver()
    groups: dict[str, Group] = {}
    for name, app in config.app.items():
        servers: list[Address] = [UnixAddress(path) for path in app_sockets.get(name, ())]
        groups[name] = Group(name, servers, group_options(config, app), resolver)
    for name, upstream in config.upstream.items():
        groups[name] = Group(name, upstream.servers, group_options(config, upstream), resolver)
    return groups


def group_options(config: Config, given: App | Upstream) -> GroupOptions:
    """Return the bounds of one group, and how it chooses among its servers."""
    options = GroupOptions(
        connect_timeout_s=given.connect_timeout,
        send_timeout_s=given.send_timeout,
        read_timeout_s=given.read_timeout,
        total_timeout_s=given.total_timeout or 0,
        max_connections=given.max_connections,
        queue=given.queue,
        queue_timeout_s=given.queue_timeout,
        idle_connections=given.idle_connections,
        idle_timeout_s=given.idle_timeout,
        response_header_bytes=given.response_header,
        max_chunk_line_bytes=config.limits.chunk_line,
        max_trailer_bytes=config.limits.trailers,
        balance=given.balance,
        sticky_cookie=given.sticky_cookie or "",
        retries=given.retries,
        retry_budget_percent=given.retry_budget,
    )
    if isinstance(given, App):
        # The limit is for what a process gets from all workers, which do not know of each other.
        share = ceil(given.max_connections / config.server.worker_count())
        return replace(options, managed=True, ejection=APP_EJECTION, max_connections=share)
    return replace(
        options,
        slow_start_s=given.slow_start or 0,
        ejection=EjectionRules(
            failures=given.eject_failures,
            rate=given.eject_rate / 100 or inf,
            first_s=given.eject_time,
            longest_s=given.eject_time_max,
        ),
        tls=given.tls,
    )
