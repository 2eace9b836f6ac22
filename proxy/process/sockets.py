"""The listening sockets: bound once by the master, inherited by every worker.

On Linux each of several workers has a socket of its own on the same address (SO_REUSEPORT), and the
kernel spreads connections over them; elsewhere that option does not balance, and all workers accept
from one socket. The master keeps every socket open: a worker's successor gets the same one, with
the connections that wait in its backlog.
"""

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.config.schema import Listen
from proxy.errors import StartError
from proxy.upstream.address import TcpAddress, UnixAddress

BALANCES_BY_PORT = sys.platform == "linux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One [[listen]], bound: `index` is its place in proxy.toml.

    `by_worker` has the sockets of each worker; several when a name has several addresses.
    """

    index: int
    by_worker: tuple[tuple[socket.socket, ...], ...]


class Listeners:
    """All listening sockets of one master."""

    def __init__(self) -> None:
        self.bound: list[Bound] = []
        self._files: list[tuple[Path, os.stat_result]] = []

    def open(self, listens: Iterable[Listen], workers: int) -> None:
        """Bind every address or none; raises StartError with what to do about it."""
        try:
            for index, listen in enumerate(listens):
                if isinstance(listen.address, UnixAddress):
                    shared = self._bind_unix(listen.address.path, listen.backlog)
                    by_worker: tuple[tuple[socket.socket, ...], ...] = ((shared,),) * workers
                else:
                    by_worker = _bind_host(listen.address, listen.backlog, workers)
                self.bound.append(Bound(index=index, by_worker=by_worker))
        except BaseException:
            self.close()
            raise

    def of_worker(self, worker: int) -> list[tuple[int, socket.socket]]:
        """Return what one worker accepts on: the index of the [[listen]], and the socket."""
        return [(bound.index, sock) for bound in self.bound for sock in bound.by_worker[worker]]

    def urls(self) -> list[str]:
        """Return where each address can be reached, the ports that the system chose included."""
        return [url_of(sock) for bound in self.bound for sock in bound.by_worker[0]]

    def close(self) -> None:
        """Close all sockets and remove the files of those that have one."""
        for bound in self.bound:
            for sock in {sock for row in bound.by_worker for sock in row}:
                sock.close()
        self.bound.clear()
        for path, made in self._files:
            with suppress(OSError):
                if os.path.samestat(path.lstat(), made):
                    path.unlink()
        self._files.clear()

    def _bind_unix(self, path: Path, backlog: int) -> socket.socket:
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(path))
            # As nginx: who may talk to a web server is a matter of the folder, or of the routes.
            path.chmod(0o666)
            sock.listen(backlog)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise StartError(f"cannot listen on unix:{path}: {error.strerror}") from None
        self._files.append((path, path.lstat()))
        return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket file that nobody listens on; raises StartError when it is anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(
            f"cannot listen on unix:{path}: there is a file of that name which is no socket; "
            f"move it away, or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise StartError(
                f"cannot listen on unix:{path}: the socket there cannot be examined "
                f"({error.strerror}); remove it if nothing uses it"
            ) from None
    raise StartError(
        f"cannot listen on unix:{path}: another program does; `{_unix_owner_command(path)}` "
        f"shows which"
    )


Where = tuple[str, int] | tuple[str, int, int, int]


def _bind_host(
    address: TcpAddress, backlog: int, workers: int
) -> tuple[tuple[socket.socket, ...], ...]:
    """Bind every address of a host, of which a name has several; returns each worker's sockets.

    Of several addresses those that this machine lacks are passed over: "localhost" stands for
    IPv6 also where there is none. Raises StartError.
    """
    rows: list[list[socket.socket]] = []
    lacking: OSError | None = None
    try:
        for family, where in _resolve(address):
            if rows and address.port == 0:
                break  # each address would get a port of its own
            try:
                rows.append(_bind_tcp(family, where, backlog, workers))
            except OSError as error:
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                lacking = error
        if lacking is not None and not rows:
            raise lacking
    except OSError as error:
        for sock in {sock for row in rows for sock in row}:
            sock.close()
        raise StartError(_explain(error, address)) from None
    return tuple(zip(*rows, strict=True))


def _resolve(address: TcpAddress) -> list[tuple[socket.AddressFamily, Where]]:
    """Return every address of a listener's host, each once; raises StartError."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise StartError(
            f"cannot listen on {address}: the host is not found ({error.strerror})"
        ) from None
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))  # type: ignore[misc]


def _bind_tcp(
    family: socket.AddressFamily, where: Where, backlog: int, workers: int
) -> list[socket.socket]:
    """Return a listening socket for each worker, the same one where they share; raises OSError."""
    made: list[socket.socket] = []
    several = BALANCES_BY_PORT and workers > 1
    try:
        # The first is bound alone to see whether the address is free: SO_REUSEPORT would share it
        # with another server of this user instead of telling.
        made.append(_tcp_socket(family, where, reuse_port=False))
        if several:
            where = made[0].getsockname()
            made.pop().close()
            made.extend(_tcp_socket(family, where, reuse_port=True) for _ in range(workers))
        for sock in made:
            sock.listen(backlog)
            sock.setblocking(False)
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made if several else made * workers


def _tcp_socket(family: socket.AddressFamily, where: Where, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # As nginx: "[::]" is IPv6 only, so that "0.0.0.0" can stand beside it.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(error: OSError, address: TcpAddress) -> str:
    """Return what is wrong with an address and the ways out of it."""
    port = address.port
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {address}: another program does; `{_port_owner_command(port)}` "
            f"shows which; end it, or choose another port in [[listen]]"
        )
    if error.errno in {errno.EACCES, errno.EPERM} and port < 1024:
        return (
            f"cannot listen on {address}: ports below 1024 need a permission. Three ways: "
            f'(1) start proxyd as root and set [server] user = "www-data": only the master stays '
            f"root; (2) give it the capability: AmbientCapabilities=CAP_NET_BIND_SERVICE in a "
            f"systemd unit; (3) let the system hand such ports to users: "
            f"`sysctl net.ipv4.ip_unprivileged_port_start={port}`. Or choose a port from 1024 on"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"cannot listen on {address}: this machine has no such address; "
            f'`{_addresses_command()}` shows those it has, and "0.0.0.0" or "[::]" stands for all'
        )
    return f"cannot listen on {address}: {error.strerror}"


def _port_owner_command(port: int) -> str:
    if sys.platform == "linux":
        return f"ss -ltnp 'sport = :{port}'"
    return f"lsof -nP -iTCP:{port} -sTCP:LISTEN"


def _unix_owner_command(path: Path) -> str:
    return f"ss -lxp src {path}" if sys.platform == "linux" else f"lsof {path}"


def _addresses_command() -> str:
    return "ip address" if sys.platform == "linux" else "ifconfig"


def url_of(sock: socket.socket) -> str:
    """Return what a person types to reach a listening socket."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}" + ("" if port == 80 else f":{port}")
