"""Started as root, with a capability, or by systemd: who holds what in a daemon that serves."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.config.access import Identity, as_user, obstacle
from tests.process.running import alive, wait_for
from tests.server import application
from tests.server.daemon import Daemon, short_folder

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="needs root, and Linux's /proc"
    ),
    pytest.mark.timeout(180),  # each starts several masters
]

WORKERS, APPLICATION = "www-data", "nobody"
SYSTEM_PYTHON = Path("/usr/bin/python3")
MAIN = "from proxy.cli import main; main()"

DROPPING = """
[server]
workers = 2
user = "www-data"
[[listen]]
address = "127.0.0.1:{port}"
[log]
access = "access.log"
error = "error.log"
flush_interval = "10ms"
[app.shop]
user = "nobody"
wsgi = "shop:app"
[[route]]
path = "/*"
to = "shop"
"""

SHOP = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
    return [f"{os.getuid()} {os.getgid()} {os.environ['HOME']} {environ['REMOTE_ADDR']}".encode()]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Powers:
    """What /proc tells of one process."""

    uids: set[int]
    gids: set[int]
    groups: set[int]
    capabilities: int
    no_new_privileges: bool
    umask: str


def powers(pid: int) -> Powers:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    held = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = {key: set(map(int, held[key].split())) for key in ("Uid", "Gid", "Groups")}
    return Powers(
        uids=numbers["Uid"],
        gids=numbers["Gid"],
        groups=numbers["Groups"],
        capabilities=sum(int(held[f"Cap{each}"], 16) for each in ("Inh", "Prm", "Eff", "Amb")),
        no_new_privileges=held["NoNewPrivs"] == "1",
        umask=held["Umask"],
    )


def children(pid: int) -> list[int]:
    """Return the pids of all processes that stem from one."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    mine = [int(word) for task in tasks for word in task.read_text().split()]
    return mine + [each for child in mine for each in children(child)]


def low_port() -> int:
    """Return a port below 1024 that nobody uses: 80 if possible, or one of this xdist worker."""
    side_by_side = os.environ.get("PYTEST_XDIST_WORKER", "")
    first = 700 + 20 * int(side_by_side.removeprefix("gw") or 0) % 300
    for port in range(first, first + 20) if side_by_side else (80, *range(first, first + 20)):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise AssertionError("every port is in use")


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    """Give what stands for `proxyd` where every user may run it, and its environment."""
    root = Path(__file__).parents[2]
    entry = pwd.getpwnam(APPLICATION)
    nobody = Identity(name=APPLICATION, uid=entry.pw_uid, gid=entry.pw_gid)
    if as_user(nobody, partial(obstacle, Path(sys.executable), "execute")) is None:
        return {"program": [sys.executable, "-P", "-c", MAIN]}
    shown = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    if shown.split() != [str(number) for number in sys.version_info[:2]]:
        pytest.skip(f"needs a Python {sys.version_info[:2]} that every user may run")
    places = [str(root), *(path for path in sys.path if path.endswith("site-packages"))]
    return {
        "program": [SYSTEM_PYTHON, "-P", "-c", MAIN],
        "env": os.environ | {"PYTHONPATH": ":".join(places)},
    }


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that everybody may enter, with two applications in it."""
    made = short_folder()
    made.chmod(0o755)
    (made / "shop.py").write_text(SHOP)
    shutil.copy(application.__file__, made)
    yield made
    shutil.rmtree(made, ignore_errors=True)


Start = Callable[..., Daemon]


@pytest.fixture
def start(folder: Path, program: dict[str, Any]) -> Iterator[Start]:
    """Give a function that starts proxyd by a command line before it, such as setpriv."""
    started: list[Daemon] = []

    def run(configuration: str, *before: str, **options: Any) -> Daemon:
        given = program | {"program": [*before, *program["program"]]} | options
        started.append(Daemon(folder, configuration, control=True, **given))
        return started[-1]

    yield run
    for daemon in started:
        for pid in [daemon.process.pid, *children(daemon.process.pid)]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        daemon.kill()


def check_dropped(master: int, application_pid: int) -> None:
    """Assert that nothing but the master may anything, and who the others are."""
    workers, shop = pwd.getpwnam(WORKERS), pwd.getpwnam(APPLICATION)
    found = children(master)
    assert len(found) >= 5  # an application, two workers, the cache's keeper, control
    for pid in found:
        held, who = powers(pid), shop if pid == application_pid else workers
        assert (held.uids, held.gids, held.groups) == ({who.pw_uid}, {who.pw_gid}, {who.pw_gid})
        assert (held.capabilities, held.no_new_privileges, held.umask) == (0, True, "0022")


def owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_mode & 0o777


def app_pid(master: int) -> int:
    """Return the pid of the application of the newest generation."""
    serving = [
        pid
        for pid in children(master)
        if "serve_wsgi.py" in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    return max(serving)


def test_a_root_master_binds_and_all_others_are_two_unprivileged_users(
    start: Start, folder: Path, program: dict[str, Any]
) -> None:
    port = low_port()
    # Root's own umask must not close what is for others.
    daemon = start(DROPPING.replace("{port}", str(port)), umask=0o077)
    master = daemon.pid("master")
    workers, shop = pwd.getpwnam(WORKERS), pwd.getpwnam(APPLICATION)
    told = f"{shop.pw_uid} {shop.pw_gid} {shop.pw_dir} 127.0.0.1".encode()

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: client.recv(4096), b"")).partition(b"\r\n\r\n")[2]

    assert told in ask()
    check_dropped(master, app_pid(master))

    state = folder / "var"
    assert owner(state) == (0, 0o755)
    for private in ("run/1", "tmp", "metrics", "cache"):
        assert owner(state / private) == (workers.pw_uid, 0o700)
    assert owner(state / "run" / "1.1") == (shop.pw_uid, 0o710)
    assert (state / "run" / "1.1").stat().st_gid == workers.pw_gid
    for log in ("access.log", "error.log"):
        assert owner(folder / log) == (workers.pw_uid, 0o640)
        (folder / log).rename(folder / f"{log}.1")
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for((folder / "access.log").exists, "the new log")
    wait_for(lambda: told in ask() and (folder / "access.log").read_text(), "a line in it")
    for log in ("access.log", "error.log"):
        assert owner(folder / log) == (workers.pw_uid, 0o640)

    for command in ("reload", "upgrade"):
        done = subprocess.run(
            [*program["program"], command, "-c", folder / "proxy.toml"],
            capture_output=True, text=True, check=False, env=program.get("env"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert told in ask()
    daemon.process.wait(timeout=20)
    master = int((state / "proxyd.pid").read_text())
    check_dropped(master, app_pid(master))
    os.kill(master, signal.SIGTERM)
    wait_for(lambda: not alive(master), "the end")
    assert list((state / "run").iterdir()) == []


OTHER_SERVER = """
import http.server, os, socketserver, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{os.getuid()} {os.getgid()} {os.environ['HOME']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

Server(sys.argv[1], Handler).serve_forever()
"""


def test_another_server_has_a_user_of_its_own_and_workers_reach_its_socket(
    start: Start, folder: Path
) -> None:
    (folder / "other.py").write_text(OTHER_SERVER)
    command = f'command = ["{SYSTEM_PYTHON}", "other.py", "{{socket}}"]'
    text = DROPPING.replace("{port}", "0").replace('wsgi = "shop:app"', command)
    daemon = start(text)
    shop = pwd.getpwnam(APPLICATION)
    told = f"{shop.pw_uid} {shop.pw_gid} {shop.pw_dir}".encode()
    assert daemon.ask("/").body == told
    (path,) = (folder / "var" / "run" / "1.1").iterdir()
    assert owner(path) == (shop.pw_uid, 0o666)
    (serving,) = [
        pid
        for pid in children(daemon.pid("master"))
        if b"other.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    check_dropped(daemon.pid("master"), serving)
    os.kill(serving, signal.SIGKILL)
    assert daemon.ask("/").body == told
    assert daemon.stop() == 0
    daemon.check_clean()


PLAIN = """
[server]
workers = 1
[[listen]]
address = "127.0.0.1:{port}"
[log]
access = "access.log"
[app.shop]
wsgi = "shop:app"
[[route]]
path = "/*"
to = "shop"
"""


@pytest.fixture
def nobodys(folder: Path) -> Path:
    entry = pwd.getpwnam(APPLICATION)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder


def as_nobody() -> dict[str, Any]:
    entry = pwd.getpwnam(APPLICATION)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.mark.usefixtures("nobodys")
def test_with_sockets_of_systemd_not_even_the_master_is_privileged(
    start: Start, folder: Path
) -> None:
    port = low_port()
    (folder / "activate.py").write_text(
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    with socket.create_server(("127.0.0.1", port)) as bound:
        daemon = start(
            PLAIN.replace("{port}", str(port)),
            # As NoNewPrivileges= and CapabilityBoundingSet= of the unit.
            *("setpriv", "--no-new-privs", "--bounding-set=-all"),
            *(f"--reuid={APPLICATION}", f"--regid={pwd.getpwnam(APPLICATION).pw_gid}"),
            *("--clear-groups", str(SYSTEM_PYTHON), str(folder / "activate.py")),
            *(str(bound.fileno()),),
            pass_fds=[bound.fileno()],
        )
        nobody = pwd.getpwnam(APPLICATION)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        master = daemon.process.pid
        for pid in [master, *children(master)]:
            held = powers(pid)
            assert (held.uids, held.gids, held.groups) == ({nobody.pw_uid}, {nobody.pw_gid}, set())
            assert (held.capabilities, held.no_new_privileges) == (0, True)
        assert daemon.stop() == 0


@pytest.mark.usefixtures("nobodys")
def test_a_capability_to_bind_is_the_masters_alone_and_its_successors(
    start: Start, folder: Path, program: dict[str, Any]
) -> None:
    daemon = start(
        PLAIN.replace("{port}", str(low_port())),
        *("setpriv", f"--reuid={APPLICATION}", f"--regid={pwd.getpwnam(APPLICATION).pw_gid}"),
        *("--clear-groups", "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"),
    )
    master = daemon.process.pid
    assert powers(master).capabilities != 0

    def check_children() -> None:
        assert len(children(master)) >= 4
        for pid in children(master):
            assert powers(pid).capabilities == 0
            assert powers(pid).no_new_privileges

    check_children()
    done = subprocess.run(
        [*program["program"], "upgrade", "-c", folder / "proxy.toml"],
        capture_output=True, text=True, check=False, env=program.get("env"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    daemon.process.wait(timeout=20)
    master = int((folder / "var" / "proxyd.pid").read_text())
    assert powers(master).capabilities != 0
    check_children()
    os.kill(master, signal.SIGTERM)
    wait_for(lambda: not alive(master), "the end")


def failed_start(folder: Path, configuration: str, program: dict[str, Any], **options: Any) -> str:
    """Return what a start that must fail writes."""
    (folder / "proxy.toml").write_text(configuration)
    environment = {**program.get("env", os.environ)}
    del environment["PROXYD_ALLOW_ROOT"]
    done = subprocess.run(
        [*program["program"], "run", "-c", folder / "proxy.toml"],
        capture_output=True, text=True, timeout=30, check=False, env=environment, **options,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return str(done.stderr)


def test_without_a_user_root_is_refused_with_the_way_to_do_it_right(
    folder: Path, program: dict[str, Any]
) -> None:
    told = failed_start(folder, PLAIN.replace("{port}", "0"), program)
    assert 'write user = "www-data" into [server]' in told
    assert "--allow-root" in told


@pytest.mark.parametrize("table", ["server", "app.shop"])
def test_root_by_name_is_refused(folder: Path, program: dict[str, Any], table: str) -> None:
    text = DROPPING.replace("{port}", "0")
    before = {"server": "www-data", "app.shop": "nobody"}[table]
    told = failed_start(folder, text.replace(f'user = "{before}"', 'user = "root"'), program)
    assert f'[{table}] user = "root" is root, which none but the master should be' in told


def test_a_folder_that_is_closed_to_the_application_is_told(
    folder: Path, program: dict[str, Any]
) -> None:
    folder.chmod(0o700)
    told = failed_start(folder, DROPPING.replace("{port}", "0"), program)
    assert f'the user "www-data" cannot enter {folder} (drwx------ root root)' in told
    assert f"chmod o+x {folder}" in told


def test_an_application_that_does_not_start_is_told_without_a_traceback_of_proxyds(
    folder: Path, program: dict[str, Any]
) -> None:
    (folder / "shop.py").write_text("import no_such_thing\n")
    told = failed_start(folder, DROPPING.replace("{port}", "0"), program)
    assert "proxyd cannot start: app shop ended at its start: exit code 78" in told


@pytest.mark.usefixtures("nobodys")
def test_who_may_not_bind_is_told_the_ways_that_work(folder: Path, program: dict[str, Any]) -> None:
    allowed = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    port = low_port()
    if allowed.exists() and int(allowed.read_text()) <= port:
        pytest.skip("everybody may bind every port here")
    told = failed_start(folder, PLAIN.replace("{port}", str(port)), program, **as_nobody())
    for way in ('as root and set [server] user = "www-data"', "CAP_NET_BIND_SERVICE", "systemd"):
        assert way in told
