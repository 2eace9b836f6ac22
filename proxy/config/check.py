"""What `proxyd check` finds beyond the file itself: users, addresses, paths, modules, dead routes.

Looks and tries, changes nothing, and imports nothing of the user's.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proxy.config.access import Identity, Obstacle, Use, as_user, obstacle, user_name
from proxy.config.backends import App, Upstream
from proxy.config.check_apps import applications, find_module
from proxy.config.check_tls import encryption
from proxy.config.check_upstreams import upstream_encryption
from proxy.config.check_users import Identities, runtime_identities
from proxy.config.finding import Finding, error, warning
from proxy.config.locate import KeyPath
from proxy.config.routes import FilesRoute, Route, ToRoute
from proxy.config.schema import Config
from proxy.upstream.address import TcpAddress, UnixAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A path that the runtime user must be able to use."""

    key: KeyPath
    path: Path
    use: Use
    what: str


def check(config: Config) -> list[Finding]:
    """Return everything that stands between this configuration and a working server."""
    identities, findings = runtime_identities(config)
    findings += [
        *listening(config),
        *encryption(config),
        *upstream_encryption(config),
        *trusting(config),
        *paths(config, identities),
        *applications(config),
        *dead_routes(config),
        *unused_targets(config),
    ]
    return sorted(findings, key=lambda finding: config.source.line(finding.key))


def listening(config: Config) -> Iterator[Finding]:
    """Try each address; who binds is the user that starts proxyd."""
    for index, listen in enumerate(config.listen):
        key: KeyPath = ("listen", index, "address")
        match listen.address:
            case TcpAddress():
                yield from binding(key, listen.address)
            case UnixAddress(path):
                if found := obstacle(path.parent, "enter") or obstacle(path.parent, "write"):
                    yield explain(found, key, "the socket's folder", user_name(os.geteuid()))
                elif path.exists() and not path.is_socket():
                    text = f"{path} is there, and is not a socket"
                    yield error(key, text, "choose another path, or remove it")
        if listen.proxy_protocol and not config.server.trusted_proxies:
            yield error(
                ("listen", index, "proxy_protocol"),
                "nobody could connect: only trusted peers may send a PROXY header, and "
                "`trusted_proxies` is empty",
                "write the balancer's network into `trusted_proxies` of [server]",
            )


def binding(key: KeyPath, address: TcpAddress) -> Iterator[Finding]:
    """Bind each of the addresses that this one stands for, without listening, and let go."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as failure:
        text = f'"{address.host}" has no address: {failure.strerror}'
        yield error(key, text, "write an IP address, or add the name to /etc/hosts")
        return
    for family, kind, protocol, _, place in dict.fromkeys(found):
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                trial.bind(place)
            except OSError as failure:
                yield bind_failure(key, address, failure)


def bind_failure(key: KeyPath, address: TcpAddress, failure: OSError) -> Finding:
    """Say why an address cannot be bound."""
    match failure.errno:
        case errno.EACCES:
            return error(
                key,
                f"only root may listen on ports such as {address.port}",
                "choose a port from 1024, or start as root with `user` in [server], or: "
                f"setcap cap_net_bind_service=+ep {Path(sys.executable).resolve()}",
            )
        case errno.EADDRINUSE:
            return warning(
                key,
                f"somebody listens on {address} already, perhaps proxyd itself",
                f"see who: ss -ltnp 'sport = :{address.port}'",
            )
        case errno.EADDRNOTAVAIL:
            return error(
                key,
                f"no interface of this machine has the address {address.host}",
                f'write one that it has, or "0.0.0.0:{address.port}" for all',
            )
    return error(key, f"cannot listen on {address}: {failure.strerror}", "choose another address")


def trusting(config: Config) -> Iterator[Finding]:
    """Find networks that are the whole world."""
    for index, network in enumerate(config.server.trusted_proxies):
        if network.endswith("/0"):
            yield warning(
                ("server", "trusted_proxies", index),
                f"{network} is everybody: any client can claim any address",
                "name the networks of your own proxies",
            )


def paths(config: Config, identities: Identities) -> Iterator[Finding]:
    """Walk every path as the user that will use it."""
    workers = identities[None]
    needs: dict[str | None, list[Need]] = {
        None: [*needed_paths(config), *written_paths(config, workers)]
    }
    needs |= {name: [*app_paths(config, name)] for name in config.app}
    for name, wanted in needs.items():
        identity = identities[name]
        who = identity.name if identity else user_name(os.geteuid())
        for need, found in zip(wanted, as_user(identity, partial(walk, wanted)), strict=True):
            if found is not None:
                yield explain(found, need.key, need.what, who, is_socket=need.use == "connect")


def walk(needs: list[Need]) -> list[Obstacle | None]:
    """Return what is in the way of each need."""
    return [obstacle(need.path, need.use) for need in needs]


def needed_paths(config: Config) -> Iterator[Need]:
    """Yield the paths in the configuration, and those that are needed to run at all."""
    interpreter = Path(sys.executable)
    yield Need(key=("server", "user"), path=interpreter, use="execute", what="Python itself")
    yield from upstream_paths(config)
    for index, route in enumerate(config.route):
        if isinstance(route, FilesRoute):
            key: KeyPath = ("route", index, "files")
            yield Need(key=key, path=route.files, use="list", what="the folder of files")
    backends: dict[str, Mapping[str, App | Upstream]]
    backends = {"app": config.app, "upstream": config.upstream}
    for table, named in backends.items():
        for name, backend in named.items():
            for folder in backend.sendfile.values():
                key = (table, name, "sendfile")
                yield Need(key=key, path=folder, use="list", what="the folder of `sendfile`")


def app_paths(config: Config, name: str) -> Iterator[Need]:
    """Yield what an application needs to run at all."""
    app = config.app[name]
    if app.user is not None:
        interpreter = Path(sys.executable)
        key: KeyPath = ("app", name, "user")
        yield Need(key=key, path=interpreter, use="execute", what="Python itself")
    key = ("app", name, "wsgi")
    folder = app.directory or config.folder
    yield Need(key=key, path=folder, use="enter", what="the application's folder")
    if app.wsgi and (module := find_module(app.wsgi, [folder])) is not None:
        yield Need(key=key, path=module, use="read", what="the application's module")
    if app.venv is not None:
        key, python = ("app", name, "venv"), app.venv / "bin" / "python"
        yield Need(key=key, path=python, use="execute", what="the application's Python")


def upstream_paths(config: Config) -> Iterator[Need]:
    """Yield the sockets of upstreams, and the files of their certificates."""
    for name, upstream in config.upstream.items():
        for index, server in enumerate(upstream.servers):
            if isinstance(server.address, UnixAddress):
                key: KeyPath = ("upstream", name, "servers", index)
                socket_path = server.address.path
                yield Need(key=key, path=socket_path, use="connect", what="the upstream's socket")
        if upstream.tls is not None:
            for file in (upstream.tls.ca_file, upstream.tls.certificate, upstream.tls.key):
                if file is not None:
                    key = ("upstream", name, "tls")
                    yield Need(key=key, path=file, use="read", what="a file of the upstream's tls")


def written_paths(config: Config, identity: Identity | None) -> Iterator[Need]:
    """Yield the paths that proxyd makes and writes.

    Root makes them for the user that it becomes, who must only be able to get there.
    """
    state = config.server.state_dir
    places: list[tuple[KeyPath, Path, Use, str]] = [
        (("server", "state_dir"), state, "write", "state_dir")
    ]
    for kind, target in (("access", config.log.access), ("error", config.log.error)):
        if isinstance(target, Path):
            places.append((("log", kind), target, "append", f"the {kind} log"))
    for key, path, use, what in places:
        if identity is None:
            yield Need(key=key, path=path, use=use, what=what)
        else:
            folder = path if use == "write" else path.parent
            there = next(place for place in (folder, *folder.parents) if place.exists())
            yield Need(key=key, path=there, use="enter", what=what)


def explain(
    found: Obstacle, key: KeyPath, what: str, who: str, *, is_socket: bool = False
) -> Finding:
    """Say which component is in whose way, and what would let them through."""
    path = found.path
    match found.kind:
        case "missing" if is_socket:
            text = f"nothing listens on {path} yet"
            return warning(key, text, "start the upstream before proxyd gets requests for it")
        case "missing":
            return error(key, f"{what}: {path} does not exist", f"mkdir -p {path}")
        case "closed":
            verb = {"x": "enter", "r": "read", "rx": "read", "wx": "write into", "w": "write to"}
            letters = found.permission.partition("+")[2]
            owning = "" if found.permission.startswith("u") else f", or: chown {who} {path}"
            return error(
                key,
                f'{what}: the user "{who}" cannot {verb[letters]} {path} ({found.description})',
                f"chmod {found.permission} {path}{owning}",
            )
        case "broken":
            return error(key, f"{what}: {path} leads nowhere", "see where its links point: namei")
    return error(key, f"{what}: {path} is {found.kind}", "name another path, or replace it")


def dead_routes(config: Config) -> Iterator[Finding]:
    """Find routes that never answer, because an earlier one takes all that they match."""
    for index, route in enumerate(config.route):
        for before, earlier in enumerate(config.route[:index]):
            if covers(earlier, route):
                line = config.source.line(("route", before))
                yield warning(
                    ("route", index, "path"),
                    f"this route never answers: {earlier.path} in line {line} takes its requests",
                    "move it up: the first route that matches answers",
                )
                break


def covers(earlier: Route, later: Route) -> bool:
    """Say whether `earlier` matches every request that `later` does."""
    if earlier.path.endswith("/*"):
        if not f"{later.path}/".startswith(earlier.path[:-1]):  # "/p/*" takes "/p" as well
            return False
    elif earlier.path != later.path:
        return False
    if earlier.host is None:
        return True
    return later.host is not None and all(
        any(
            host == other or (other[0] == "*" and host.endswith(other[1:]))
            for other in earlier.host
        )
        for host in later.host
    )


def unused_targets(config: Config) -> Iterator[Finding]:
    """Find apps and upstreams to which no route leads."""
    used = {route.to for route in config.route if isinstance(route, ToRoute)}
    for name, target in {**config.app, **config.upstream}.items():
        if name not in used:
            kind = "upstream" if isinstance(target, Upstream) else "app"
            text = f"no route leads to [{kind}.{name}]"
            yield warning((kind, name), text, f'add a [[route]] with to = "{name}"')
