"""How the process of an application is started: its arguments, its environment, its address."""

import os
import socket
import sys
from pathlib import Path

from proxy.config.applications import Command, filled
from proxy.config.backends import App
from proxy.process import serve_command, serve_wsgi
from proxy.upstream.address import Address, TcpAddress, UnixAddress


def address_of(app: App, socket_path: Path) -> Address:
    """Return where the next process shall listen; raises OSError when no port is free."""
    if app.command is None or not app.command.on_port(app.env):
        return UnixAddress(socket_path)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return TcpAddress("127.0.0.1", trial.getsockname()[1])


def interpreter(app: App) -> str:
    """Return the Python that runs a WSGI application."""
    return sys.executable if app.venv is None else str(app.venv / "bin" / "python")


def arguments(
    app: App, address: Address, *, for_others: bool, report: int, tells_times: bool = False
) -> list[str]:
    """Return what to run; with `for_others`, its group may connect as well.

    `report` is the descriptor on which the process tells how many requests hang; `tells_times`
    says that a route asks how long the application takes.
    """
    if app.command is not None:
        opened = _place(address).get("socket", "") if for_others else ""
        given = _given(app.command, address)
        return [sys.executable, "-I", "-S", serve_command.__file__, opened, *given]
    return [
        interpreter(app),
        "-P",  # the folder goes on the import path behind proxyd's own imports
        "-u",  # what the application prints is in the log at once
        serve_wsgi.__file__,
        "--server", app.server,
        "--socket", _place(address)["socket"],
        "--threads", str(app.threads),
        "--read-timeout", str(app.read_timeout),
        "--total-timeout", str(app.total_timeout or 0),
        "--report", str(report),
        "--life-line",
        *(["--for-others"] if for_others else []),
        *(["--tell-times"] if tells_times else []),
        *(f"--sendfile={folder}" for folder in app.sendfile.values()),
        app.wsgi or "",
    ]  # fmt: skip


def environment(app: App, address: Address, identity: dict[str, str]) -> dict[str, str]:
    """Return the environment: proxyd's, the user's, the virtual environment's, and `env`."""
    found = os.environ | identity
    if app.venv is not None:
        # As its `activate` does.
        found.pop("PYTHONHOME", None)
        found["VIRTUAL_ENV"] = str(app.venv)
        found["PATH"] = f"{app.venv / 'bin'}{os.pathsep}{found.get('PATH', os.defpath)}"
    if app.command is None:
        return found | app.env
    if isinstance(address, UnixAddress):
        # gunicorn and uvicorn believe X-Forwarded-For of 127.0.0.1 only, which nobody on a socket
        # has; only proxyd can reach this one.
        found["FORWARDED_ALLOW_IPS"] = "*"
    found["PYTHONUNBUFFERED"] = "1"
    place = _place(address)
    return found | {name: filled(value, place) for name, value in app.env.items()}


def _given(command: Command, address: Address) -> list[str]:
    place = _place(address)
    return [filled(argument, place) for argument in command.arguments]


def _place(address: Address) -> dict[str, str]:
    if isinstance(address, UnixAddress):
        return {"socket": str(address.path)}
    return {"port": str(address.port)}
