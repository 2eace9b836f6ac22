"""Listening sockets: real ones, and what is said when they cannot be had."""

import errno
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from proxy.config.schema import Listen
from proxy.errors import StartError
from proxy.process import sockets
from proxy.process.listeners import Bound, Listeners
from proxy.upstream.address import Address, TcpAddress, UnixAddress


class Listening(Listeners):
    """Listens as soon as it is open, as at the start of the daemon."""

    def open(
        self,
        listens: Sequence[Listen],
        workers: int,
        held: Sequence[Bound] = (),
        control: Address | None = None,
    ) -> None:
        super().open(listens, workers, held, control)
        self.listen()


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listening()
    yield made
    made.close()


def at(address: Address) -> Listen:
    return Listen.model_construct(address=address, backlog=16, proxy_protocol=False)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_one_worker_has_one_socket_and_a_url(listeners: Listeners) -> None:
    listeners.open([at(TcpAddress("127.0.0.1", 0))], 1)
    ((index, sock),) = listeners.of_worker(0)
    assert index == 0
    assert listeners.urls() == [f"http://127.0.0.1:{sock.getsockname()[1]}"]
    socket.create_connection(sock.getsockname()).close()


def test_several_workers_share_the_port_that_the_system_chose(listeners: Listeners) -> None:
    listeners.open([at(TcpAddress("127.0.0.1", 0))], 3)
    socks = [sock for worker in range(3) for _, sock in listeners.of_worker(worker)]
    assert len({sock.getsockname() for sock in socks}) == 1
    assert len(set(socks)) == (3 if sockets.BALANCES_BY_PORT else 1)


def test_where_the_kernel_does_not_balance_all_workers_have_one_socket(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "BALANCES_BY_PORT", False)
    listeners.open([at(TcpAddress("127.0.0.1", 0))], 2)
    assert listeners.of_worker(0) == listeners.of_worker(1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_told_with_the_way_to_find_its_owner(
    listeners: Listeners, workers: int
) -> None:
    with socket.socket() as other:
        if hasattr(socket, "SO_REUSEPORT"):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=rf"127.0.0.1:{port}: another .*(ss|lsof) .*{port}"):
            listeners.open([at(TcpAddress("127.0.0.1", port))], workers)


def test_when_one_address_fails_none_stays_bound(listeners: Listeners, short: Path) -> None:
    path = short / "one.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = TcpAddress("127.0.0.1", other.getsockname()[1])
        with pytest.raises(StartError):
            listeners.open([at(UnixAddress(path)), at(taken)], 2)
    assert listeners.bound == []
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "port", "words"),
    [
        (errno.EACCES, 80, ["Three ways", "as root", "CAP_NET_BIND_SERVICE", "systemd", "1024"]),
        (errno.EACCES, 8080, ["Permission denied"]),
        (errno.EADDRNOTAVAIL, 80, ["no such address", "0.0.0.0"]),
        (errno.EADDRINUSE, 80, ["another program", ":80"]),
        (errno.ENOBUFS, 80, ["No buffer space"]),
    ],
)
def test_each_failure_names_a_way_out(
    listeners: Listeners,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    port: int,
    words: list[str],
) -> None:
    def fail(*_: object, **__: object) -> socket.socket:
        raise OSError(number, __import__("os").strerror(number))

    monkeypatch.setattr(sockets, "_tcp_socket", fail)
    with pytest.raises(StartError) as told:
        listeners.open([at(TcpAddress("127.0.0.1", port))], 1)
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize(("platform", "words"), [("linux", "ss -l"), ("darwin", "lsof")])
def test_commands_are_those_of_the_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, words: str
) -> None:
    monkeypatch.setattr(sockets.sys, "platform", platform)  # type: ignore[attr-defined]
    assert sockets._port_owner_command(80).startswith(words)
    assert sockets._unix_owner_command(Path("/a")).startswith(words)


def test_an_address_that_is_not_this_machines_is_told(listeners: Listeners) -> None:
    with pytest.raises(StartError, match="no such address"):
        listeners.open([at(TcpAddress("192.0.2.1", 8080))], 1)


def test_a_host_that_is_not_found_is_told(listeners: Listeners) -> None:
    with pytest.raises(StartError, match="is not found"):
        listeners.open([at(TcpAddress("nowhere.invalid", 8080))], 1)


def test_a_name_with_an_address_that_this_machine_lacks_listens_on_the_others(
    listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
        ]

    monkeypatch.setattr(sockets.socket, "getaddrinfo", both)  # type: ignore[attr-defined]
    listeners.open([at(TcpAddress("here.test", 0))], 2)
    ((_, sock),) = listeners.of_worker(1)
    assert sock.getsockname()[0] == "127.0.0.1"


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_every_ipv6_address_stands_beside_every_ipv4_address(listeners: Listeners) -> None:
    listeners.open([at(TcpAddress("::", 0))], 2)
    port = listeners.of_worker(0)[0][1].getsockname()[1]
    assert listeners.urls() == [f"http://[::1]:{port}"]
    with socket.create_server(("0.0.0.0", port)):
        pass


def test_the_url_of_port_80_has_none() -> None:
    class Port80:
        family = socket.AF_INET

        def getsockname(self) -> tuple[str, int]:
            return ("0.0.0.0", 80)

    assert sockets.url_of(Port80()) == "http://127.0.0.1"  # type: ignore[arg-type]


def test_a_unix_socket_is_for_everybody_and_is_removed_at_the_end(short: Path) -> None:
    path = short / "web.sock"
    listeners = Listening()
    listeners.open([at(UnixAddress(path))], 2)
    assert listeners.urls() == [f"unix:{path}"]
    assert path.stat().st_mode & 0o777 == 0o666
    assert listeners.of_worker(0) == listeners.of_worker(1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listeners.close()
    assert not path.exists()


def test_a_socket_file_that_somebody_else_put_there_is_left_alone(short: Path) -> None:
    path = short / "web.sock"
    listeners = Listeners()
    listeners.open([at(UnixAddress(path))], 1)
    path.unlink()
    path.touch()
    listeners.close()
    assert path.exists()


def test_a_stale_unix_socket_is_replaced(listeners: Listeners, short: Path) -> None:
    path = short / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listeners.open([at(UnixAddress(path))], 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_unix_socket_in_use_is_told(listeners: Listeners, short: Path) -> None:
    path = short / "web.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(StartError, match="another program does"):
            listeners.open([at(UnixAddress(path))], 1)
    assert path.exists()


def test_a_unix_socket_of_another_kind_is_told(listeners: Listeners, short: Path) -> None:
    path = short / "web.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(StartError, match="cannot be examined"):
            listeners.open([at(UnixAddress(path))], 1)


def test_a_file_in_the_place_of_a_unix_socket_is_never_removed(
    listeners: Listeners, short: Path
) -> None:
    path = short / "web.sock"
    path.write_text("precious")
    with pytest.raises(StartError, match="which is no socket"):
        listeners.open([at(UnixAddress(path))], 1)
    assert path.read_text() == "precious"


def test_a_unix_socket_in_a_folder_that_does_not_exist_is_told(
    listeners: Listeners, short: Path
) -> None:
    with pytest.raises(StartError, match="No such file or directory"):
        listeners.open([at(UnixAddress(short / "no" / "web.sock"))], 1)
