"""Sockets that systemd has bound, in the place of those that proxyd would bind."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config.schema import Listen
from proxy.errors import StartError
from proxy.process import activation
from proxy.process.activation import activated_sockets, bound_by_systemd
from proxy.process.listeners import Listeners
from proxy.upstream.address import Address, TcpAddress, UnixAddress
from tests.process.running import RUN, WORKER, wait_for


def at(address: Address) -> Listen:
    return Listen.model_construct(address=address, backlog=16, proxy_protocol=False, tls=None)


def handed_over(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """Let one descriptor be what systemd handed over."""
    monkeypatch.setattr(activation, "_FIRST_DESCRIPTOR", os.dup(sock.fileno()))
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    try:
        return activated_sockets(environment)
    finally:
        assert environment == {}


def test_a_socket_takes_the_place_of_the_listener_with_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        (sock,) = handed_over(made, monkeypatch)
        assert not sock.get_inheritable()
        listens = [
            at(TcpAddress("127.0.0.2", 0)),
            at(TcpAddress("localhost", made.getsockname()[1])),
        ]
        held = bound_by_systemd(listens, [sock])
        listeners = Listeners()
        listeners.open(listens, 2, held)
        assert [index for index, _ in listeners.of_worker(0)] == [0, 1]
        assert listeners.of_worker(0)[1] == listeners.of_worker(1)[1] == (1, sock)
        listeners.close()


def test_the_file_of_a_unix_socket_stays_systemds(
    monkeypatch: pytest.MonkeyPatch, short: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(short / "web.sock"))
        made.listen()
        listens = [at(UnixAddress(short / "web.sock"))]
        listeners = Listeners()
        listeners.open(listens, 1, bound_by_systemd(listens, handed_over(made, monkeypatch)))
        listeners.close()
    assert (short / "web.sock").exists()


def test_a_socket_that_no_listener_names_is_told_and_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as made, caplog.at_level(logging.WARNING):
        (sock,) = handed_over(made, monkeypatch)
        port = made.getsockname()[1]
        assert bound_by_systemd([at(TcpAddress("127.0.0.1", port + 1))], [sock]) == []
    assert "which no [[listen]] names" in caplog.text
    assert sock.fileno() == -1


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_does_not_listen_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: socket.SocketKind
) -> None:
    with (
        socket.socket(socket.AF_INET, kind) as made,
        pytest.raises(StartError, match="is not listening; write ListenStream="),
    ):
        handed_over(made, monkeypatch)


def test_what_is_no_socket_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(activation, "_FIRST_DESCRIPTOR", os.dup(file.fileno()))
        with pytest.raises(StartError, match="is no socket"):
            activated_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})


def test_sockets_for_another_process_are_not_ours() -> None:
    assert activated_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "3"}) == []
    assert activated_sockets({}) == []


def test_a_daemon_serves_on_the_socket_that_it_was_given(folder: Path) -> None:
    (folder / "worker.py").write_text(WORKER)
    (folder / "pass_on.py").write_text(
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
        (folder / "proxy.toml").write_text(
            f'[[listen]]\naddress = "127.0.0.1:{port}"\n[[route]]\npath = "/*"\nfiles = "."\n'
        )
        errors = folder / "stderr"
        with errors.open("wb") as file:
            command = [sys.executable, "pass_on.py", str(made.fileno()), "-P", "-c", RUN]
            process = subprocess.Popen(
                [*command, sys.executable, "worker.py"],
                cwd=folder,
                stderr=file,
                pass_fds=[made.fileno()],
            )
        wait_for(lambda: "proxyd: master" in errors.read_text() or process.poll(), "the start")
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 200")
        process.terminate()
        assert process.wait(timeout=20) == 0
        socket.create_connection(("127.0.0.1", port)).close()  # systemd still listens
