"""As process 1 of a container: a namespace of its own, where nobody else takes leave of orphans."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.running import alive, wait_for
from tests.server.daemon import PROXYD, Daemon, short_folder

pytestmark = pytest.mark.timeout(120)

CONFIGURATION = """
[server]
workers = 1
[[listen]]
address = "127.0.0.1:0"
[log]
flush_interval = "10ms"
[app.shop]
wsgi = "shop:app"
[[route]]
path = "/*"
to = "shop"
"""

# What the shell starts in the background outlives it, and is process 1's from then on.
SHOP = """
import subprocess

def app(environ, start_response):
    if environ["PATH_INFO"] == "/orphan":
        subprocess.run(["sh", "-c", "sleep 1.0625 &"], check=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"sold"]
"""


def namespaced() -> list[str]:
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def may_unshare() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    done = subprocess.run([*namespaced(), "true"], capture_output=True, check=False)
    return done.returncode == 0


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def sleepers(parent: int) -> list[int]:
    """Return the processes that `/orphan` left to process 1, by the pids of our own namespace."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "sleep\n"]


@pytest.fixture
def container() -> Iterator[Daemon]:
    if not may_unshare():
        pytest.skip("needs the right to make a namespace of processes")
    folder = short_folder()
    (folder / "shop.py").write_text(SHOP)
    made = None
    try:
        made = Daemon(folder, CONFIGURATION, control=True, program=[*namespaced(), PROXYD])
        yield made
    finally:
        if made is not None:
            made.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_process_1_reaps_orphans_logs_to_its_output_and_ends_on_a_signal(
    container: Daemon,
) -> None:
    assert container.pid("master") == 1
    master = child_of(container.process.pid)
    assert container.ask("/orphan").body == b"sold"
    container.wait_for_log('"GET /orphan HTTP/1.1" 200')
    wait_for(lambda: sleepers(master), "an orphan that is process 1's")
    (orphan,) = sleepers(master)
    wait_for(lambda: not Path(f"/proc/{orphan}").exists(), "its end, without a zombie")
    assert container.ask("/").body == b"sold"

    command: list[str | Path] = [PROXYD, "upgrade", "-c", container.folder / "proxy.toml"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "start a new container" in refused.stderr
    assert container.ask("/").body == b"sold"

    os.kill(master, signal.SIGQUIT)
    assert container.process.wait(timeout=30) == 0
    assert not alive(master)
    assert list((container.folder / "var" / "run").iterdir()) == []
