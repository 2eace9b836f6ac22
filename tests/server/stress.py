"""What is done to a proxyd under constant load, and what must not be left of it.

Whatever is done, clients see right answers only. A killed worker takes its connections with it:
there a client may repeat once what closed before its answer was whole (load.py). After everything
else, the death of an application included, nobody may have had to repeat anything.
"""

import logging
import os
import random
import re
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from proxy.process import control_client
from tests.process.running import alive, wait_for
from tests.server.application import made
from tests.server.daemon import FILES, PROXYD, Daemon
from tests.server.load import Load, Question, load_on
from tests.server.wire import Wire

SITE = """
[server]
workers = {workers}
[[listen]]
address = "127.0.0.1:0"
[log]
access = "off"
[app.flask]
wsgi = "application:app"
threads = 4
processes = {processes}
[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/*"
to = "flask"
"""
# How long a client waits: for a worker or an application to be back, on a machine that is busy.
PATIENCE_S = 30.0
COMMAND_S = 300.0
# What tells the processes of one run from all others, whoever is their parent.
MARK = "PROXYD_TESTS_RUN"
CACHED = 30

BROKEN_CONFIGURATIONS = {
    '[[route]]\npath = "/more/*"\nto = "nobody"\n': "nobody",
    "[limits]\nheader_size = 1\n": "header_size",
    "[[listen]\n": "proxy.toml:",
    '[[listen]]\naddress = "192.0.2.1:80"\n': "192.0.2.1:80",
}
BROKEN_APPLICATIONS = {
    "import nothing_of_that_name\n": "ModuleNotFoundError: No module named 'nothing_of_that_name'",
    "def broken(\n": "SyntaxError",
    "raise RuntimeError('no database')\n": "RuntimeError: no database",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n": "killed by SIGKILL",
    "def app(environ, start_response):\n    raise KeyError('settings')\n": "KeyError: 'settings'",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often each thing is done."""

    reloads: int
    killed_workers: int
    killed_applications: int
    upgrades: int
    broken_configurations: int
    broken_applications: int

    def shuffled(self, chance: random.Random) -> list[str]:
        """Return the names of all that is to do, in any order."""
        todo = (
            ["reload"] * self.reloads
            + ["kill worker"] * self.killed_workers
            + ["kill application"] * self.killed_applications
            + ["upgrade"] * self.upgrades
            + ["broken configuration"] * self.broken_configurations
            + ["broken application"] * self.broken_applications
        )
        chance.shuffle(todo)
        return todo


class Stress:
    """One daemon and those who work on it."""

    def __init__(self, running: Daemon, load: Load, chance: random.Random) -> None:
        self.running = running
        self.load = load
        self._chance = chance
        self._doing: dict[str, Callable[[], None]] = {
            "reload": self.reload,
            "kill worker": partial(self.kill, "worker"),
            "kill application": partial(self.kill, "app"),
            "upgrade": self.upgrade,
            "broken configuration": self.offer_broken_configuration,
            "broken application": self.offer_broken_application,
        }

    def do(self, what: str) -> None:
        """Do one thing, wait until every client has met it, and look what they saw."""
        load = self.load
        before, began_at = load.repeated, monotonic()
        self._doing[what]()
        load.settle()
        took_s = monotonic() - began_at
        log.info("%s: %.1f s, %d answers by then", what, took_s, load.answers[200])
        assert not load.failures, f"after {what}: {load.failures}"
        if what != "kill worker":
            assert load.repeated == before, f"after {what}"

    def reload(self) -> None:
        told = command(self.running, "reload")
        assert told.returncode == 0, told.stderr

    def upgrade(self) -> None:
        before = status(self.running)["pid"]
        told = command(self.running, "upgrade")
        assert told.returncode == 0, told.stderr
        wait_for(lambda: self._gone(before), "the end of the old master", COMMAND_S)

    def _gone(self, master: int) -> bool:
        first = self.running.process
        return first.poll() is not None if first.pid == master else not alive(master)

    def kill(self, kind: str) -> None:
        """Kill a process of the generation that serves, and wait until another one is there."""
        before = pids(self.running, kind)
        victim = self._chance.choice(before)
        os.kill(victim, signal.SIGKILL)

        def back() -> bool:
            now = pids(self.running, kind)
            return victim not in now and len(now) == len(before)

        wait_for(back, f"another {kind}", COMMAND_S)

    def offer_broken_configuration(self) -> None:
        text, told = self._chance.choice([*BROKEN_CONFIGURATIONS.items()])
        path = self.running.folder / "proxy.toml"
        whole = path.read_text()
        self._offer(path, whole + text, whole, told)

    def offer_broken_application(self) -> None:
        text, told = self._chance.choice([*BROKEN_APPLICATIONS.items()])
        path = self.running.folder / "application.py"
        self._offer(path, text, path.read_text(), told)

    def _offer(self, path: Path, broken: str, whole: str, told: str) -> None:
        """See that what is broken is refused with the reason, and all goes on as before."""
        before = inventory(self.running).keys(), status(self.running)["pid"]
        path.write_text(broken)
        try:
            refused = command(self.running, self._chance.choice(["reload", "upgrade"]))
        finally:
            path.write_text(whole)
        assert refused.returncode != 0
        assert told in refused.stderr, refused.stderr
        assert (inventory(self.running).keys(), status(self.running)["pid"]) == before


def command(running: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the daemon's configuration."""
    return subprocess.run(
        [PROXYD, *arguments, "-c", running.folder / "proxy.toml"],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


def status(running: Daemon) -> dict[str, Any]:
    """Return what `proxyd status --json` prints, without a process for it."""
    return control_client.command(running.folder / "var", "status", lambda _: None)[1]


def pids(running: Daemon, kind: str) -> list[int]:
    """Return the pids of the processes that serve, of one kind: "worker" or "app"."""
    return [
        process["pid"]
        for process in status(running)["generations"][0]["processes"]
        if process["name"].startswith(kind) and process["pid"] is not None
    ]


# ── What clients ask ─────────────────────────────────────────────────────────────────────────


def questions(chance: random.Random) -> list[Question]:
    """Return what is static, what is cached, and what the application answers each time."""
    numbers = count()

    def static() -> tuple[str, bytes]:
        name = chance.choice(["page.html", "style.css"])
        return f"/static/{name}", FILES[name].encode()

    def cached() -> tuple[str, bytes]:
        number = chance.randrange(CACHED)
        size = 100 + 700 * number
        return f"/made/{size}/cached-{number}?fresh=1", made(f"cached-{number}", size)

    def dynamic() -> tuple[str, bytes]:
        name = f"own-{next(numbers)}"
        return f"/made/3000/{name}", made(name, 3000)

    return [static, cached, dynamic]


# ── What is left ─────────────────────────────────────────────────────────────────────────────


def marked(mark: str) -> dict[int, str]:
    """Return the processes of one run, with their command lines. Linux."""
    needle = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if needle in environment.split(b"\0"):
                found[int(folder.name)] = line.replace(b"\0", b" ").decode()
    return found


def inventory(running: Daemon) -> dict[str, int]:
    """Return how many descriptors each process has, by its name."""
    found = status(running)
    processes = {
        process["name"]: process["pid"]
        for process in found["generations"][0]["processes"]
        if process["pid"] is not None
    }
    return {
        name: len(os.listdir(f"/proc/{pid}/fd"))
        for name, pid in (processes | {"master": found["pid"]}).items()
    }


def sockets(running: Daemon) -> list[str]:
    """Return the socket files, without the numbers of their generation and process."""
    state = running.folder / "var"
    return sorted(
        re.sub(r"/\d+(?=/)|\.\d+$", "", str(path.relative_to(state)))
        for path in state.rglob("*")
        if stat.S_ISSOCK(path.lstat().st_mode)
    )


def quiet(running: Daemon) -> tuple[dict[str, int], list[str]]:
    """Return what a generation holds that has just started and has no clients."""
    assert command(running, "reload").returncode == 0
    wait_for(
        lambda: len(status(running)["generations"]) == 1, "the old generations to end", COMMAND_S
    )
    return inventory(running), sockets(running)


@contextmanager
def stressed(running: Daemon, mark: str, seed: int) -> Iterator[Stress]:
    """Load a daemon; at the end see that it holds what it held before, and leaves nothing."""
    chance = random.Random(seed)

    def connect() -> Wire:
        wire = running.connect()
        wire.sock.settimeout(PATIENCE_S)
        return wire

    before = quiet(running)
    processes = len(marked(mark))
    with load_on(connect, questions(chance), 1) as load:
        yield Stress(running, load, chance)
    assert load.failures == []
    wait_for(lambda: quiet(running) == before, f"nothing but {before}", COMMAND_S)
    assert len(marked(mark)) == processes, marked(mark)
    assert command(running, "stop").returncode == 0
    wait_for(lambda: not marked(mark), "the end of every process")
    running.check_clean()
