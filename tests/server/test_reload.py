"""Reloads, deploys and deaths under constant load: what clients see of them, which is nothing."""

import os
import signal
from collections.abc import Callable
from functools import partial

import pytest

from tests.process.running import alive, wait_for
from tests.server.daemon import Daemon
from tests.server.load import Load, load_on
from tests.server.stress import command, pids, status

Start = Callable[..., Daemon]

# Each of these starts a dozen processes, on a machine that may have much else to do.
pytestmark = pytest.mark.timeout(300)

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
wsgi = "application:app"
threads = 4
[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/*"
to = "flask"
"""
TARGETS = ["/static/page.html", "/pid"]


def replaced(running: Daemon, pid: int) -> bool:
    """Whether another process of the application runs in the place of `pid`."""
    return pids(running, "app") not in ([], [pid])


def answered(load: Load, times: int) -> bool:
    return load.answers[200] >= times


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_killed_application_is_nothing_to_static_files_and_soon_back(start: Start) -> None:
    running = start(SITE)
    with load_on(running.connect, ["/static/page.html"], 1) as load:
        for _ in range(3):
            (pid,) = pids(running, "app")
            os.kill(pid, signal.SIGKILL)
            wait_for(partial(replaced, running, pid), "a new process")
            wait_for(lambda: running.ask("/pid").status == 200, "its first answer")
    assert load.failures == []
    assert load.repeated == 0
    assert running.stop() == 0
    running.check_clean()


def test_requests_wait_for_an_application_that_is_killed(start: Start) -> None:
    running = start(SITE)
    with load_on(running.connect, ["/pid"], 2) as load:
        for _ in range(3):
            (pid,) = pids(running, "app")
            os.kill(pid, signal.SIGKILL)
            wait_for(partial(replaced, running, pid), "a new process")
            wait_for(partial(answered, load, load.answers[200] + 20), "answers from it")
    # An answer whose head had come when the process died cannot be repaired, so its client repeats.
    assert load.failures == []
    assert running.stop() == 0
    running.check_clean()


def test_upgrades_under_load_lose_nothing_and_a_failed_one_changes_nothing(start: Start) -> None:
    running = start(SITE, workers=2)
    first = running.process.pid
    with load_on(running.connect, TARGETS, 1) as load:
        told = command(running, "upgrade")
        assert told.returncode == 0, told.stderr
        second = status(running)["pid"]
        assert told.stdout == f"a new master serves, pid {second}\n"
        assert running.process.wait(timeout=40) == 0
        assert (running.folder / "var" / "proxyd.pid").read_text() == f"{second}\n"
        source = running.folder / "application.py"
        whole = source.read_text()
        source.write_text("raise SystemExit('broken')\n")
        refused = command(running, "upgrade")
        assert refused.returncode == 1
        assert "app flask: the application" in refused.stderr
        assert "the upgrade failed, what runs goes on" in refused.stderr
        source.write_text(whole)
        assert status(running)["pid"] == second
        os.kill(second, signal.SIGUSR2)
        wait_for(lambda: status(running)["pid"] not in {first, second}, "the third master")
        wait_for(lambda: not alive(second), "the end of the second master", 40)
        assert command(running, "reload").returncode == 0
    assert load.failures == []
    assert load.repeated == 0
    everybody = [status(running)["pid"], *pids(running, "worker"), *pids(running, "app")]
    assert command(running, "stop").returncode == 0
    wait_for(lambda: not any(map(alive, everybody)), "the end of every process")
    running.check_clean()


def only_one_generation(running: Daemon) -> bool:
    return len(status(running)["generations"]) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_reloads_and_killed_workers_under_load_lose_nothing(start: Start, workers: int) -> None:
    running = start(SITE, workers=workers, control=True)
    master = running.process.pid
    assert command(running, "reload").returncode == 0
    wait_for(lambda: only_one_generation(running), "the first generation to end")
    held = descriptors(master)
    with load_on(running.connect, TARGETS, 2) as load:
        for number in range(3):
            told = command(running, "reload")
            assert told.returncode == 0, told.stderr
            assert told.stdout == f"generation {number + 3} serves\n"
        assert load.repeated == 0
        for pid in pids(running, "worker"):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(pids(running, "worker")) == workers, "the workers to be back")
        source = running.folder / "application.py"
        whole = source.read_text()
        source.write_text("raise SystemExit('broken')\n")
        load.settle()
        repeated = load.repeated
        assert command(running, "reload").returncode == 1
        source.write_text(whole)
        assert command(running, "reload").returncode == 0
        assert load.repeated == repeated
    assert load.failures == []
    assert load.answers[200] > 100
    wait_for(lambda: only_one_generation(running), "the old generations to end")
    assert descriptors(master) == held
    assert len(list((running.folder / "var" / "run").iterdir())) == 1
    everybody = [master, *pids(running, "worker"), *pids(running, "app")]
    assert command(running, "stop").returncode == 0
    assert running.process.wait(timeout=20) == 0
    wait_for(lambda: not any(map(alive, everybody)), "the end of every process")
    running.check_clean()
