"""The stacks that the lab knows: what each is made of, whether it is installed, how it starts."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import final

from proxy.lab.configurations import (
    NGINX,
    PROXYD,
    PROXYD_APP,
    PROXYD_NO_CACHE,
    PROXYD_UPSTREAM,
)
from proxy.lab.services import Build, Service, find_program

TARGET = "proxy.lab.application:app"
THREADS = 8
APPLICATION = "application"
TRUST_NGINX = (
    "--trusted-proxy=127.0.0.1",
    "--trusted-proxy-count=1",
    "--trusted-proxy-headers=x-forwarded-for x-forwarded-proto",
    "--clear-untrusted-proxy-headers",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a stack is to run: its own `folder`, ports that are free, the static `files`."""

    folder: Path
    port: int
    inner_port: int
    files: Path
    environment: Mapping[str, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A stack as the lab knows it. `missing` says what to install, "" when all is there."""

    key: str
    title: str
    summary: str
    layers: list[str]
    missing: Callable[[], str]
    version: Callable[[], str]
    build: Callable[[Site], Build]


def needs_module(module: str, package: str) -> Callable[[], str]:
    """Return a check for a Python package."""

    def missing() -> str:
        return "" if find_spec(module) else f"{package} is not installed: pip install {package}"

    return missing


def needs_nginx() -> str:
    """Say what to install for nginx."""
    return "" if find_program("nginx") else "nginx is not installed: apt install nginx-light"


def nothing() -> str:
    """Nothing is missing: it came with proxyd."""
    return ""


def versions(*packages: str) -> Callable[[], str]:
    """Return a function that names packages with their versions."""

    def version() -> str:
        return ", ".join(f"{package} {metadata.version(package)}" for package in packages)

    return version


def nginx_version() -> str:
    """Ask nginx for its version."""
    program = find_program("nginx") or "nginx"
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)  # noqa: S603
    version = told.stderr.strip().rpartition("/")[2]
    return f"nginx {version}, waitress {metadata.version('waitress')}"


def alone(server: str) -> Callable[[Site], Build]:
    """Return the start of a server that has no command of its own."""

    def build(site: Site) -> Build:
        command = [sys.executable, "-m", "proxy.lab.serve", server, str(site.port)]
        return Build(services=[Service(name=server, command=command, shown=shown(command))])

    return build


def waitress(port: int, *trust: str) -> Service:
    """Return Waitress with its own command; `trust`: whom it believes about the client."""
    command = [
        sys.executable, "-m", "waitress",
        f"--listen=127.0.0.1:{port}", f"--threads={THREADS}", *trust, TARGET,
    ]  # fmt: skip
    return Service(name="waitress", command=command, shown=shown(command))


def gunicorn(port: int) -> Service:
    """Return gunicorn with threads, as its manual has it for applications that wait."""
    command = [
        sys.executable, "-m", "gunicorn",
        f"--bind=127.0.0.1:{port}", "--workers=1", f"--threads={THREADS}", TARGET,
    ]  # fmt: skip
    return Service(name="gunicorn", command=command, shown=shown(command))


def proxyd() -> Service:
    """Return proxyd; the very code that the lab belongs to, wherever it is installed."""
    command = [
        sys.executable, "-c", "from proxy.cli import main; main()", "run", "-c", "proxy.toml",
    ]  # fmt: skip
    return Service(name="proxyd", command=command, shown="proxyd run -c proxy.toml")


def with_proxyd(target: str, *, cache: bool) -> Callable[[Site], Build]:
    """Return the start of proxyd with an application of its own, or before gunicorn."""

    def build(site: Site) -> Build:
        inner = target.format(threads=THREADS, inner_port=site.inner_port)
        no_cache = "" if cache else PROXYD_NO_CACHE
        text = PROXYD.format(port=site.port, files=site.files, target=inner, cache=no_cache)
        behind = [gunicorn(site.inner_port)] if target == PROXYD_UPSTREAM else []
        return Build(services=[*behind, proxyd()], files={"proxy.toml": text})

    return build


def with_nginx(site: Site) -> Build:
    """Write a configuration for nginx, and start it before Waitress."""
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = NGINX.format(port=site.port, inner_port=site.inner_port, files=site.files, user=user)
    program = find_program("nginx") or "nginx"
    command = [program, "-p", f"{site.folder}/", "-c", "nginx.conf"]
    front = Service(name="nginx", command=command, shown="nginx -p . -c nginx.conf")
    return Build(
        services=[waitress(site.inner_port, *TRUST_NGINX), front], files={"nginx.conf": text}
    )


def shown(command: list[str]) -> str:
    """Write a command of Python's as a person would."""
    return " ".join(["python", *command[1:]])


KINDS = (
    Kind(
        key="werkzeug",
        title="Werkzeug",
        summary="What “flask run” starts: a server for development, with a thread for each "
        "connection.",
        layers=["Werkzeug", APPLICATION],
        missing=needs_module("werkzeug", "werkzeug"),
        version=versions("werkzeug"),
        build=alone("werkzeug"),
    ),
    Kind(
        key="gevent",
        title="gevent",
        summary="gevent's WSGIServer: a greenlet for each connection, one thread for all.",
        layers=["gevent", APPLICATION],
        missing=needs_module("gevent", "gevent"),
        version=versions("gevent"),
        build=alone("gevent"),
    ),
    Kind(
        key="waitress",
        title="Waitress",
        summary=f"The WSGI server alone: {THREADS} threads and a queue, 100 connections at most, "
        "which is its default.",
        layers=["Waitress", APPLICATION],
        missing=nothing,
        version=versions("waitress"),
        build=lambda site: Build(services=[waitress(site.port)]),
    ),
    Kind(
        key="gunicorn",
        title="gunicorn",
        summary=f"gunicorn alone: one worker with {THREADS} threads.",
        layers=["gunicorn", APPLICATION],
        missing=needs_module("gunicorn", "gunicorn"),
        version=versions("gunicorn"),
        build=lambda site: Build(services=[gunicorn(site.port)]),
    ),
    Kind(
        key="nginx",
        title="nginx → Waitress",
        summary="nginx takes the connections and the static files, Waitress the rest.",
        layers=["nginx", "Waitress", APPLICATION],
        missing=needs_nginx,
        version=nginx_version,
        build=with_nginx,
    ),
    Kind(
        key="proxyd-gunicorn",
        title="proxyd → gunicorn",
        summary="proxyd before a gunicorn that somebody else started, its cache off.",
        layers=["proxyd", "gunicorn", APPLICATION],
        missing=needs_module("gunicorn", "gunicorn"),
        version=versions("proxyd", "gunicorn"),
        build=with_proxyd(PROXYD_UPSTREAM, cache=False),
    ),
    Kind(
        key="proxyd",
        title="proxyd → Waitress",
        summary="proxyd takes the connections and the static files, and runs Waitress; its cache "
        "is off.",
        layers=["proxyd", "Waitress", APPLICATION],
        missing=nothing,
        version=versions("proxyd", "waitress"),
        build=with_proxyd(PROXYD_APP, cache=False),
    ),
    Kind(
        key="proxyd-cache",
        title="proxyd + cache → Waitress",
        summary="The same, with the cache on, as it is by default.",
        layers=["proxyd", "Waitress", APPLICATION],
        missing=nothing,
        version=versions("proxyd", "waitress"),
        build=with_proxyd(PROXYD_APP, cache=True),
    ),
)
