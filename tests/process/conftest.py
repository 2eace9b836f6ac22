"""A folder with an application in it, and the application running."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.running import APPLICATION, Daemon, Served


@pytest.fixture
def short() -> Iterator[Path]:
    """Give a folder whose path leaves room for a socket's name, which macOS's tmp_path does not."""
    folder = Path(tempfile.mkdtemp(prefix="pd-", dir="/tmp")).resolve()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # a keeper may still be about to end


@pytest.fixture
def folder(short: Path) -> Path:
    """Give a folder with an application in it."""
    (short / "timeline.py").write_text(APPLICATION)
    return short


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Served]]:
    """Give a function that starts the application under one of the servers."""
    started: list[Served] = []

    def start(server: str, target: str = "timeline:app", threads: int = 4) -> Served:
        served = Served(folder, server, target, threads)
        started.append(served)
        return served

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()


@pytest.fixture
def daemon(folder: Path) -> Iterator[Callable[..., Daemon]]:
    """Give a function that starts a master on a configuration."""
    started: list[Daemon] = []

    def start(
        configuration: str, worker_python: str = sys.executable, *, watch: bool = False
    ) -> Daemon:
        started.append(Daemon(folder, configuration, worker_python, watch=watch))
        return started[-1]

    yield start
    for daemon in started:
        daemon.process.kill()
        daemon.process.wait()
