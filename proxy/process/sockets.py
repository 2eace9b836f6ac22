"""How one address is bound: a TCP socket, or a unix socket; and why it cannot be.

On Linux each worker has a socket of its own on the same address (SO_REUSEPORT), and the kernel
spreads connections over them; elsewhere that option does not balance, and all workers accept from
one socket. What becomes of the sockets is the business of listeners.py.
"""

import errno
import socket
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from proxy.errors import StartError
from proxy.process.paths import near
from proxy.upstream.address import Address, TcpAddress, UnixAddress

BALANCES_BY_PORT = sys.platform == "linux"
DEFAULT_PORT = {"http": 80, "https": 443}


def bind_unix(path: Path, mode: int = 0o666) -> socket.socket:
    """Bind a unix socket in the place of one that nobody listens on; raises StartError.

    For everybody, as nginx: who may talk to a web server is a matter of the folder, or of the
    routes.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with near(path) as where:
            sock.bind(where)
        path.chmod(mode)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on unix:{path}: {error.strerror}") from None
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
            with near(path) as where:
                probe.connect(where)
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


def bind_host(address: TcpAddress, workers: int) -> list[list[socket.socket]]:
    """Bind every address of a host, of which a name has several; returns the sockets of each.

    One for each worker where the kernel balances between them. Of several addresses those that this
    machine lacks are passed over: "localhost" stands for IPv6 also where there is none. Raises
    StartError.
    """
    rows: list[list[socket.socket]] = []
    lacking: OSError | None = None
    try:
        for family, where in resolve(address):
            if rows and address.port == 0:
                break  # each address would get a port of its own
            try:
                rows.append(_bind_tcp(family, where, workers))
            except OSError as error:
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                lacking = error
        if lacking is not None and not rows:
            raise lacking
    except OSError as error:
        for sock in [sock for row in rows for sock in row]:
            sock.close()
        raise StartError(explain(error, address)) from None
    return rows


def bind_more(row: Sequence[socket.socket], number: int) -> list[socket.socket]:
    """Bind so many sockets more beside those of one address, for workers to come.

    They get no connection before they listen. Raises OSError.
    """
    made: list[socket.socket] = []
    try:
        made.extend(
            _tcp_socket(row[0].family, row[0].getsockname(), reuse_port=True) for _ in range(number)
        )
    except OSError:
        for sock in made:
            sock.close()
        raise
    return made


def resolve(address: TcpAddress) -> list[tuple[socket.AddressFamily, Where]]:
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


def _bind_tcp(family: socket.AddressFamily, where: Where, workers: int) -> list[socket.socket]:
    """Return a socket for each worker, or the one that they share; raises OSError."""
    # The first is bound alone to see whether the address is free: SO_REUSEPORT would share it with
    # another server of this user instead of telling.
    alone = _tcp_socket(family, where, reuse_port=False)
    if not BALANCES_BY_PORT:
        return [alone]
    with alone:
        where = alone.getsockname()
    first = _tcp_socket(family, where, reuse_port=True)
    try:
        return [first, *bind_more([first], workers - 1)]
    except OSError:
        first.close()
        raise


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
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def explain(error: OSError, address: Address) -> str:
    """Return what is wrong with an address and the ways out of it."""
    if isinstance(address, UnixAddress):
        return f"cannot listen on {address}: {error.strerror}"
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
            f"systemd unit; (3) let systemd bind it and hand over the socket: `proxyd systemd` "
            f"prints the units. Or choose a port from 1024 on"
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


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    """Return what a person types to reach a listening socket."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" + ("" if port == DEFAULT_PORT[scheme] else f":{port}")
