"""All listening sockets of the master: kept over reloads, so that no queued connection is lost.

A socket that is closed loses the connections that wait in its queue, and with SO_REUSEPORT each
socket has a queue of its own. So worker i of a new generation gets the very sockets of worker i of
the old one; sockets of workers that are no more are shared by those that are left; and what is
bound anew listens only when somebody is there to accept. The master keeps every socket open: a
worker's successor finds the connections that waited.
"""

import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, repeat

from proxy.config.schema import Listen
from proxy.errors import StartError
from proxy.process.sockets import bind_host, bind_more, bind_unix, explain, url_of
from proxy.upstream.address import Address, UnixAddress

# A person, a monitor or two.
CONTROL_BACKLOG = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One [[listen]], bound; `key` is its address as proxy.toml has it.

    Each of `rows` is one address, of which a name has several: its sockets, one for each worker if
    it is `balanced`, else one for all. `made` is the file of a unix socket that is ours to remove.
    """

    key: str
    rows: tuple[tuple[socket.socket, ...], ...]
    balanced: bool
    made: os.stat_result | None = None

    @property
    def sockets(self) -> list[socket.socket]:
        """Every socket."""
        return [sock for row in self.rows for sock in row]


class Listeners:
    """The listening sockets of one generation, in the order of [[listen]]; last the control's."""

    def __init__(self) -> None:
        self.bound: list[Bound] = []
        self._addresses: list[Address] = []
        self._listens: Sequence[Listen] = ()
        self._workers = 0

    def open(
        self,
        listens: Sequence[Listen],
        workers: int,
        held: Sequence[Bound] = (),
        control: Address | None = None,
    ) -> None:
        """Take every address from what is `held`, or bind it; all of them or none.

        Raises StartError with what to do about it, and then what is held stays as it was.
        """
        self._workers = workers
        self._listens = listens
        known = {bound.key: bound for bound in held}
        try:
            for listen in listens:
                bound = known.get(str(listen.address))
                if bound is None:
                    bound = _bind(listen.address, workers)
                elif bound.balanced and len(bound.rows[0]) < workers:
                    bound = _extend(bound, listen.address, workers)
                self._add(bound, listen.address)
            if control is not None:
                self._add(known.get(str(control)) or _bind(control, 1, mode=0o600), control)
        except BaseException:
            self.close(but=held)
            raise

    def _add(self, bound: Bound, address: Address) -> None:
        self.bound.append(bound)
        self._addresses.append(address)

    def listen(self) -> None:
        """Let the system queue connections from now on; raises StartError."""
        backlogs = chain((listen.backlog for listen in self._listens), repeat(CONTROL_BACKLOG))
        for bound, address, backlog in zip(self.bound, self._addresses, backlogs, strict=False):
            try:
                for sock in bound.sockets:
                    sock.listen(backlog)
            except OSError as error:
                raise StartError(explain(error, address)) from None

    def of_worker(self, worker: int) -> list[tuple[int, socket.socket]]:
        """Return what one worker accepts on: the index of the [[listen]], and the socket."""
        return [
            (index, sock)
            for index, bound in enumerate(self.bound[: len(self._listens)])
            for row in bound.rows
            for sock in _share(row, worker, self._workers, bound.balanced)
        ]

    def of_control(self) -> list[socket.socket]:
        """Return what the control process accepts on."""
        return [sock for bound in self.bound[len(self._listens) :] for sock in bound.sockets]

    def urls(self) -> list[str]:
        """Return where each address can be reached, the ports that the system chose included."""
        return [
            url_of(row[0], "https" if listen.tls is not None else "http")
            for bound, listen in zip(self.bound, self._listens, strict=False)
            for row in bound.rows
        ]

    def close(self, but: Iterable[Bound] = ()) -> None:
        """Close all sockets and remove their files, except what is `but` held."""
        kept = {sock for bound in but for sock in bound.sockets}
        for bound in self.bound:
            for sock in bound.sockets:
                if sock not in kept:
                    sock.close()
            if bound.made is not None and bound.rows[0][0] not in kept:
                _remove(bound)
        self.bound.clear()
        self._addresses.clear()
        self._listens = ()


def _bind(address: Address, workers: int, *, mode: int = 0o666) -> Bound:
    key = str(address)
    if isinstance(address, UnixAddress):
        sock = bind_unix(address.path, mode)
        return Bound(key=key, rows=((sock,),), balanced=False, made=address.path.lstat())
    rows = bind_host(address, workers)
    balanced = _balanced(rows[0][0])
    return Bound(key=key, rows=tuple(map(tuple, rows)), balanced=balanced)


def _balanced(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def _extend(bound: Bound, address: Address, workers: int) -> Bound:
    """Return the same with sockets for more workers; raises StartError."""
    rows: list[tuple[socket.socket, ...]] = []
    try:
        rows.extend((*row, *bind_more(row, workers - len(row))) for row in bound.rows)
    except OSError as error:
        for row, before in zip(rows, bound.rows, strict=False):
            for sock in row[len(before) :]:
                sock.close()
        raise StartError(explain(error, address)) from None
    return replace(bound, rows=tuple(rows))


def _share(
    row: tuple[socket.socket, ...], worker: int, workers: int, balanced: bool
) -> Iterable[socket.socket]:
    """Return which of an address's sockets one worker accepts on."""
    if not balanced:
        return row
    return (row[worker], *row[workers:])


def _remove(bound: Bound) -> None:
    """Remove a unix socket's file, unless somebody has put another one there."""
    path = bound.key.removeprefix("unix:")
    with suppress(OSError):
        if bound.made is not None and os.path.samestat(os.lstat(path), bound.made):
            os.unlink(path)
