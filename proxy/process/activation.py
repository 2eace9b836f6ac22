"""Listening sockets that systemd has bound: socket activation, sd_listen_fds(3)."""

import logging
import os
import socket
from collections.abc import MutableMapping, Sequence

from proxy.config.schema import Listen
from proxy.errors import StartError
from proxy.process.listeners import Bound
from proxy.process.sockets import resolve, url_of
from proxy.upstream.address import UnixAddress

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START

log = logging.getLogger(__name__)


def activated_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Take the sockets that were handed to this process, and the variables that say so."""
    pid = environment.pop("LISTEN_PID", "")
    number = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not number.isdigit():
        return []
    sockets = []
    for descriptor in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(number)):
        os.set_inheritable(descriptor, False)
        try:
            sock = socket.socket(fileno=descriptor)
            listening = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError as error:
            raise StartError(
                f"descriptor {descriptor} of systemd is no socket: {error.strerror}"
            ) from None
        if sock.type != socket.SOCK_STREAM or not listening:
            sock.close()
            raise StartError(
                f"descriptor {descriptor} of systemd is not listening; write ListenStream= and no"
                " Accept= in the socket unit"
            )
        sock.setblocking(False)
        sockets.append(sock)
    return sockets


def bound_by_systemd(listens: Sequence[Listen], sockets: Sequence[socket.socket]) -> list[Bound]:
    """Return which [[listen]] is bound already, by its address.

    All workers accept from such a socket. One that no [[listen]] names is closed, with a warning.
    """
    left = list(sockets)
    bounds = []
    for listen in listens:
        if not left:
            break
        names = _names(listen)
        mine = [sock for sock in left if sock.getsockname() in names]
        left = [sock for sock in left if sock not in mine]
        if mine:
            rows = tuple((sock,) for sock in mine)
            bounds.append(Bound(key=str(listen.address), rows=rows, balanced=False))
    for sock in left:
        log.warning("systemd handed over %s, which no [[listen]] names", url_of(sock))
        sock.close()
    return bounds


def _names(listen: Listen) -> list[object]:
    if isinstance(listen.address, UnixAddress):
        return [str(listen.address.path)]
    return [where for _, where in resolve(listen.address)]
