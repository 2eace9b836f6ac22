"""What becomes of listening sockets from one generation to the next."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.config.schema import Listen
from proxy.errors import StartError
from proxy.process import sockets
from proxy.process.listeners import Listeners
from proxy.upstream.address import Address, TcpAddress, UnixAddress

HERE = TcpAddress("127.0.0.1", 0)
balanced = pytest.mark.skipif(not sockets.BALANCES_BY_PORT, reason="needs balancing by port")


def at(address: Address, backlog: int = 16) -> Listen:
    return Listen.model_construct(address=address, backlog=backlog, proxy_protocol=False)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def opened(stack: ExitStack, listens: list[Listen], workers: int = 1) -> Listeners:
    made = Listeners()
    made.open(listens, workers)
    made.listen()
    stack.callback(made.close)
    return made


def after(stack: ExitStack, old: Listeners, listens: list[Listen], workers: int = 1) -> Listeners:
    """Return the next generation's listeners, not listening yet."""
    made = Listeners()
    made.open(listens, workers, old.bound)
    stack.callback(made.close)
    return made


def socks(listeners: Listeners, worker: int) -> list[socket.socket]:
    return [sock for _, sock in listeners.of_worker(worker)]


@pytest.mark.parametrize("workers", [1, 3])
def test_what_stays_keeps_the_sockets_of_each_worker(stack: ExitStack, workers: int) -> None:
    old = opened(stack, [at(HERE)], workers)
    new = after(stack, old, [at(HERE, backlog=32)], workers)
    for worker in range(workers):
        assert socks(old, worker) == socks(new, worker)


def test_a_connection_that_waits_is_there_for_the_next_generation(stack: ExitStack) -> None:
    old = opened(stack, [at(HERE)])
    (sock,) = socks(old, 0)
    with socket.create_connection(sock.getsockname()) as client:
        new = after(stack, old, [at(HERE)])
        new.listen()
        old.close(but=new.bound)
        accepted, _ = socks(new, 0)[0].accept()
        with accepted:
            assert accepted.getpeername() == client.getsockname()


def test_what_is_bound_anew_gets_no_connection_before_it_listens(stack: ExitStack) -> None:
    old = opened(stack, [at(HERE)])
    new = after(stack, old, [at(HERE), at(TcpAddress("127.0.0.2", 0))])
    (_, sock) = socks(new, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname())
    new.listen()
    socket.create_connection(sock.getsockname()).close()


@balanced
def test_more_workers_get_sockets_that_do_not_listen_yet(stack: ExitStack) -> None:
    old = opened(stack, [at(HERE)], 1)
    new = after(stack, old, [at(HERE)], 3)
    assert socks(new, 0) == socks(old, 0)
    added = [*socks(new, 1), *socks(new, 2)]
    assert len({sock.getsockname() for sock in [*socks(new, 0), *added]}) == 1
    accepting = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in added]
    assert accepting == [0, 0]
    new.listen()
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in added)


@balanced
def test_fewer_workers_share_the_sockets_that_nobody_else_serves(stack: ExitStack) -> None:
    old = opened(stack, [at(HERE)], 3)
    new = after(stack, old, [at(HERE)], 2)
    orphan = socks(old, 2)
    assert socks(new, 0) == [*socks(old, 0), *orphan]
    assert socks(new, 1) == [*socks(old, 1), *orphan]
    again = after(stack, new, [at(HERE)], 3)
    assert socks(again, 2) == orphan


def test_what_is_gone_is_closed_and_its_file_removed(stack: ExitStack, short: Path) -> None:
    unix = at(UnixAddress(short / "web.sock"))
    old = opened(stack, [at(HERE), unix])
    tcp, _ = socks(old, 0)
    new = after(stack, old, [at(HERE)])
    old.close(but=new.bound)
    assert not (short / "web.sock").exists()
    assert tcp.fileno() >= 0


def test_a_unix_socket_that_stays_keeps_its_file(stack: ExitStack, short: Path) -> None:
    unix = at(UnixAddress(short / "web.sock"))
    old = opened(stack, [unix])
    new = after(stack, old, [unix])
    old.close(but=new.bound)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(short / "web.sock"))
    new.close()
    assert not (short / "web.sock").exists()


def test_a_generation_that_cannot_bind_leaves_the_old_sockets_alone(stack: ExitStack) -> None:
    old = opened(stack, [at(HERE)], 1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = TcpAddress("127.0.0.1", other.getsockname()[1])
        with pytest.raises(StartError, match="another program does"):
            after(stack, old, [at(HERE), at(taken)], 2)
    (sock,) = socks(old, 0)
    socket.create_connection(sock.getsockname()).close()


@balanced
def test_sockets_for_more_workers_that_cannot_be_bound_are_told(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = opened(stack, [at(HERE)], 1)

    def fail(*_: object, **__: object) -> socket.socket:
        raise OSError(105, "No buffer space available")

    monkeypatch.setattr(sockets, "_tcp_socket", fail)
    with pytest.raises(StartError, match=r"127.0.0.1:0: No buffer space"):
        after(stack, old, [at(HERE)], 2)
    assert socks(old, 0)[0].fileno() >= 0


def test_an_address_that_another_took_before_it_listened_is_told(stack: ExitStack) -> None:
    made = Listeners()
    made.open([at(HERE)], 1)
    stack.callback(made.close)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        (sock,) = socks(made, 0)
        if hasattr(socket, "SO_REUSEPORT"):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        try:
            other.bind(sock.getsockname())
        except OSError:
            pytest.skip("this system does not bind an address twice")
        other.listen()
        with pytest.raises(StartError, match="another program does"):
            made.listen()
