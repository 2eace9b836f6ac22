"""A real proxyd: `proxyd run` on a proxy.toml, and what can be seen of it from outside."""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.process.running import alive, wait_for
from tests.server import application
from tests.server.wire import Message, Wire, connect

PROXYD = Path(sys.executable).with_name("proxyd")
HOST = "127.0.0.1"

HEAD = """
[server]
workers = {workers}
trusted_proxies = ["unix:"]
[log]
access = "access.log"
format = "json"
flush_interval = "10ms"
"""
# The control process is a third of what a start costs, and few tests ask it.
NO_CONTROL = """
[control]
address = "off"
"""

FILES = {
    "page.html": "<!doctype html><title>static</title><p>a file\n",
    "style.css": "body { color: rgb(1, 2, 3) }\n" * 100,
    "script.js": 'document.querySelector("h1").textContent = "the script ran";\n',
    "dot.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7">'
    '<circle r="3" cx="3" cy="3"/></svg>\n',
}


def short_folder() -> Path:
    """Make a folder whose path leaves room for a socket's name, which macOS's tmp_path does not."""
    return Path(tempfile.mkdtemp(prefix="pd-", dir="/tmp")).resolve()


class Daemon:
    """One run of `proxyd run` in `folder`; ready when the constructor returns.

    `control` is whether the control process runs, where `configuration` does not say; `program` is
    what stands for `proxyd`, `options` are those of `subprocess`.
    """

    def __init__(
        self,
        folder: Path,
        configuration: str,
        *,
        workers: int = 1,
        control: bool = False,
        program: Sequence[str | Path] = (PROXYD,),
        **options: Any,
    ) -> None:
        self.folder = folder
        self.log_path = folder / "stderr"
        text = configuration if "[log]" in configuration else HEAD + configuration
        if not control and "[control]" not in text:
            text = NO_CONTROL + text
        (folder / "proxy.toml").write_text(text.replace("{workers}", str(workers)))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*program, "run", "-c", folder / "proxy.toml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # what Ctrl-C in a terminal reaches is this group
                **options,
            )
        wait_for(lambda: "proxyd: master" in self.log or self.process.poll() is not None, "a start")
        assert self.process.poll() is None, self.log
        announced = [line.split() for line in self.log.splitlines() if line.startswith("proxyd:")]
        self.urls = [words[2] for words in announced if words[1] == "listening"]
        self._pids = {
            " ".join(words[1:-2]): int(words[-1]) for words in announced if "pid" in words
        }

    @property
    def url(self) -> str:
        """Where clients reach its first listener."""
        return self.urls[0]

    @property
    def address(self) -> tuple[str, int]:
        return HOST, int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """All that it wrote to standard error."""
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text: str, since: int = 0) -> str:
        """Wait for `text` in the log behind the character `since`; return that part of the log."""
        wait_for(lambda: text in self.log[since:], f"{text!r} in the log")
        return self.log[since:]

    def access(self, target: str) -> dict[str, Any]:
        """Wait for the line of the access log about `target`, whatever its host."""
        path = self.folder / "access.log"
        needle = f'"target":"{target}"'
        wait_for(lambda: needle in path.read_text(), f"{target} in the access log")
        line = next(line for line in path.read_text().splitlines() if needle in line)
        entry: dict[str, Any] = json.loads(line)
        return entry

    def pid(self, name: str) -> int:
        """Return the pid that it announced for "worker 1", "app flask", "master" …."""
        return self._pids[name]

    @property
    def pids(self) -> list[int]:
        """Return all pids that it announced."""
        return list(self._pids.values())

    def connect(self) -> Wire:
        """Connect to the first listener."""
        return connect(self.address)

    def ask(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Message:
        """Make one request on a connection of its own."""
        with self.connect() as wire:
            wire.get(target, "Connection: close", *lines, method=method, body=body)
            message = wire.message(bodiless=method == "HEAD")
            assert wire.ended()
        return message

    def ask_json(self, target: str, *lines: str) -> Any:
        return json.loads(self.ask(target, *lines).body)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def check_clean(self) -> None:
        """Assert that nothing is left of it: no process, no socket, no pid file, no spooled body.

        The cache stays, for the next start. And that nothing happened which it did not foresee.
        """
        wait_for(lambda: not any(map(alive, self.pids)), "the end of every process")
        state = self.folder / "var"
        left = [path for path in state.rglob("*") if not path.is_dir()]
        assert [path for path in left if state / "cache" not in path.parents] == []
        assert list(self.folder.glob("*.sock")) == []
        assert re.search(r"^(    \| )?Traceback", self.log, re.MULTILINE) is None

    def kill(self) -> None:
        """End it whatever it does; for what a failed test leaves behind."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(configuration: str, *, workers: int = 1, control: bool = False) -> Iterator[Daemon]:
    """Run proxyd in a folder of its own, with the application and some files in it."""
    folder = short_folder()
    shutil.copy(application.__file__, folder)
    static = folder / "static"
    static.mkdir()
    for name, content in FILES.items():
        (static / name).write_text(content)
    (folder / "private").mkdir()
    running = None
    try:
        running = Daemon(folder, configuration, workers=workers, control=control)
        yield running
    finally:
        if running is not None:
            running.kill()
        shutil.rmtree(folder, ignore_errors=True)  # a keeper may still be about to end


def memory_kib(pid: int, key: str = "VmRSS") -> int:
    """Return the memory of a process in KiB; VmHWM is the most since `forget_peak`. Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(key + ":"))
    return int(line.split()[1])


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew at what the process holds now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
