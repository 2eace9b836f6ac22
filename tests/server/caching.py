"""What the tests of the cache have in common: a proxyd before an origin, and how to ask it."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.server.daemon import Daemon
from tests.server.origin import Origin, listening_origin
from tests.server.wire import Message, Wire

# So many connections at once that each of two workers accepts some.
ENOUGH = 24
# A client and the request for it at the origin are both files of this process.
FILES = 4096

CONFIGURATION = """
[server]
workers = 2
{server}
[log]
access = "off"
[[listen]]
address = "127.0.0.1:0"
[cache]
purge_from = ["127.0.0.0/8"]
{cache}
[upstream.origin]
servers = ["127.0.0.1:{port}"]
max_connections = 2000
{routes}
[[route]]
path = "/*"
to = "origin"
"""


def configuration(origin: Origin, *, server: str = "", cache: str = "", routes: str = "") -> str:
    """Return a configuration with what is to be different from the usual."""
    text = CONFIGURATION.replace("{port}", str(origin.port)).replace("{server}", server)
    return text.replace("{cache}", cache).replace("{routes}", routes)


@contextmanager
def clients(daemon: Daemon, count: int) -> Iterator[list[Wire]]:
    """Connect so many clients at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(daemon.connect()) for _ in range(count)]


def on_both(daemon: Daemon, target: str, *lines: str) -> list[Message]:
    """Ask so many clients' workers at once that both have answered."""
    with clients(daemon, ENOUGH) as wires:
        for wire in wires:
            wire.get(target, *lines)
        return [wire.message() for wire in wires]


def bodies(messages: list[Message]) -> set[bytes]:
    return {message.body for message in messages}


def told(message: Message) -> str:
    """Return what the answer's Cache-Status says."""
    return message.get("cache-status") or ""


def is_hit(message: Message) -> bool:
    return told(message).startswith("proxyd; hit")


def cache_files(daemon: Daemon) -> list[Path]:
    """Return the files of entries that have their name, in the folder of the cache."""
    return sorted((daemon.folder / "var" / "cache").glob("[0-9a-f][0-9a-f]/*"))


def children(daemon: Daemon, program: str = "") -> list[int]:
    """Return the pids of the processes of a daemon, or of those of one program of `proxy.process`.

    At less cost than `proxyd status`, of which there would be many.
    """
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    lines = (line.split(None, 2) for line in listed.splitlines())
    return [
        int(pid)
        for pid, parent, arguments in lines
        if int(parent) == daemon.process.pid and arguments.endswith(program)
    ]


def restarted(daemon: Daemon) -> Daemon:
    """Start a daemon that has ended again, in its folder; its log begins anew."""
    daemon.log_path.rename(daemon.log_path.with_name(f"stderr-{daemon.process.pid}"))
    return Daemon(daemon.folder, (daemon.folder / "proxy.toml").read_text())


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with listening_origin() as listening:
        yield listening


@pytest.fixture(scope="module")
def many_files() -> Iterator[None]:
    """Let this process open enough files for a thousand clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        pytest.skip(f"only {hard} files may be open at once; this needs {FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
