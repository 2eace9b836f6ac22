"""One round of load: wrk with a browser's head, its count of answers, and what the worker used."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import final

from bench.cpu import cpu_s, on_cpus
from bench.errors import BenchError
from bench.jobs import BROWSER_FIELDS, Job
from bench.servers import Server, require

CONNECTIONS = 16
# How long wrk may take beyond its own duration: it waits for answers that are under way.
WRK_GRACE_S = 30

# Lua: the fields, and the figures of the end in a form that is easy to read.
WRK_SCRIPT = """
{fields}
function done(summary)
  local e = summary.errors
  io.write(string.format("result requests=%d bytes=%d microseconds=%d errors=%d\\n",
    summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""
RESULT = re.compile(
    r"^result requests=(\d+) bytes=(\d+) microseconds=(\d+) errors=(\d+)$", re.MULTILINE
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one server did in one round.

    `errors` counts answers that did not come or were wrong; with any, the rest means nothing.
    """

    requests: int
    errors: int
    duration_s: float
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        """CPU for each request, in microseconds."""
        return self.cpu_s / self.requests * 1e6


class Wrk:
    """The load generator with one browser's head, on CPUs of its own."""

    def __init__(self, folder: Path, cpus: set[int]) -> None:
        """Raises SkipError when wrk is not there."""
        self._program = require("wrk", "wrk")
        self._cpus = cpus
        self._script = folder / "browser.lua"
        fields = (f'wrk.headers["{name}"] = "{value}"' for name, value in BROWSER_FIELDS.items())
        self._script.write_text(WRK_SCRIPT.format(fields="\n".join(fields)))

    @property
    def version(self) -> str:
        """Return the version that it says."""
        told = subprocess.run([self._program, "-v"], capture_output=True, text=True, check=False)
        return told.stdout.split(" ")[1]

    def round(self, job: Job, server: Server, seconds: int) -> Round:
        """Load `server` for so many seconds. Raises BenchError when wrk itself fails."""
        url = f"http://127.0.0.1:{server.port}{job.path}"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(self._script)]
        before = cpu_s(server.worker)
        with on_cpus(self._cpus):
            told = subprocess.run(
                [self._program, *options, url],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + WRK_GRACE_S,
            )
        used_s = cpu_s(server.worker) - before
        return read_round(job, told.stdout + told.stderr, used_s)


def read_round(job: Job, output: str, used_s: float) -> Round:
    """Read wrk's words. Raises BenchError when there is no result in them."""
    match = RESULT.search(output)
    if match is None:
        raise BenchError(f"wrk did not come to a result:\n{output}")
    requests, received, microseconds, errors = map(int, match.groups())
    if requests == 0:
        raise BenchError(f"not one answer to {job.path}:\n{output}")
    if received < requests * len(job.answer):
        errors += 1  # a redirect or an empty answer is no error to wrk, and is short
    return Round(requests=requests, errors=errors, duration_s=microseconds / 1e6, cpu_s=used_s)
