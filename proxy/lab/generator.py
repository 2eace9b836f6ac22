"""The load generator as the lab sees it: a process that takes jobs."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO

import msgspec

from proxy.errors import LabError
from proxy.lab.load_job import LoadJob, Ready, Told

# What a job may take beyond its own time and the time for its last answer.
PATIENCE_S = 60.0
DIED = "the load generator died; what it printed stands above"


class Generator:
    """A running load generator; a context manager that ends it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proxy.lab.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        stdout = self._process.stdout
        if stdout is not None:
            threading.Thread(target=self._read, args=(stdout,), daemon=True).start()

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def run(self, job: LoadJob, when_ready: Callable[[int], None] | None = None) -> Told:
        """Do one job; `when_ready` is called with the number of connections that are in place.

        Raises LabError when the generator dies or stands still.
        """
        if self._process.stdin is None:
            raise LabError("the load generator has no standard input")
        try:
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LabError(DIED) from None
        while True:
            told = msgspec.json.decode(self._line(job), type=Ready | Told)
            if isinstance(told, Told):
                return told
            if when_ready is not None:
                when_ready(told.connected)

    def _line(self, job: LoadJob) -> bytes:
        try:
            line = self._lines.get(timeout=job.duration_s + job.timeout_s + PATIENCE_S)
        except queue.Empty:
            raise LabError("the load generator stands still; its figures would be wrong") from None
        if not line:
            raise LabError(DIED)
        return line

    def _read(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            self._lines.put(line)
        self._lines.put(b"")
