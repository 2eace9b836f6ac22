"""One round of load: wrk with a browser's head, its count of answers, and what the server used."""

import re
import subprocess
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import final

from bench.checks import check_fetches, check_stored, fetches
from bench.cpu import family, on_cpus, used_s
from bench.errors import BenchError
from bench.handshakes import shake_hands
from bench.jobs import BROWSER_FIELDS, KB, Job
from bench.servers import Server, require

# How long wrk may take beyond its own duration: it waits for answers that are under way.
WRK_GRACE_S = 30
# Of the last requests of a round some may not have been answered.
LAST = 2

# Lua: the fields, a new URL after each `group` of requests, and the figures of the end in a form
# that is easy to read.
WRK_SCRIPT = """
{fields}
local group = {group}
local asked = 0
if group > 0 then
  request = function()
    asked = asked + 1
    return wrk.format(nil, wrk.path .. math.floor(asked / group))
  end
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("result requests=%d bytes=%d microseconds=%d p99=%d errors=%d\\n",
    summary.requests, summary.bytes, summary.duration, latency:percentile(99),
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""
RESULT = re.compile(
    r"^result requests=(\d+) bytes=(\d+) microseconds=(\d+) p99=(\d+) errors=(\d+)$", re.MULTILINE
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one server did in one round.

    `errors` counts answers that did not come or were wrong; with any, the rest means nothing.
    `fetches` is what the upstream was asked; `p99_s` what one answer of a hundred took longer than.
    """

    requests: int
    errors: int
    duration_s: float
    cpu_s: float
    p99_s: float = 0
    fetches: int = 0

    @property
    def cpu_us(self) -> float:
        """CPU for each request, in microseconds."""
        return self.cpu_s / self.requests * 1e6


class Wrk:
    """The load generator with one browser's head, on CPUs of its own."""

    def __init__(self, folder: Path, upstream_port: int, cpus: set[int]) -> None:
        """Raises SkipError when wrk is not there."""
        self._program = require("wrk", "wrk")
        self._folder = folder
        self._upstream_port = upstream_port
        self._cpus = cpus
        self._rounds = count(1)

    @property
    def version(self) -> str:
        """Return the version that it says."""
        told = subprocess.run([self._program, "-v"], capture_output=True, text=True, check=False)
        return told.stdout.split(" ")[1]

    def round(self, job: Job, server: Server, seconds: int) -> Round:
        """Load `server` for so many seconds. Raises BenchError when it is not as the job says."""
        if job.client == "openssl":
            return self._handshakes(server, seconds)
        # No two rounds ask for the same new URLs.
        path = f"{job.path}/{next(self._rounds)}-" if job.group else job.path
        fetched, before = fetches(self._upstream_port), family(server.pid)
        output = self._run(job, server, path, seconds)
        spent_s = used_s(before, family(server.pid))
        fetched = fetches(self._upstream_port) - fetched
        taken = read_round(job, output, spent_s, fetched)
        check_fetches(job, server.name, taken.requests, fetched)
        if job.group:
            last = max((taken.requests - job.clients) // job.group - LAST, 1)
            check_stored(job, server, f"{path}{last}")
        return taken

    def _handshakes(self, server: Server, seconds: int) -> Round:
        before = family(server.pid)
        number, duration_s = shake_hands(server, seconds, self._cpus)
        spent_s = used_s(before, family(server.pid))
        return Round(requests=number, errors=0, duration_s=duration_s, cpu_s=spent_s)

    def _run(self, job: Job, server: Server, path: str, seconds: int) -> str:
        """Return what wrk has to say."""
        script = self._folder / f"{job.name}.lua"
        script.write_text(lua(job))
        at = (
            f"https://127.0.0.1:{server.tls_port}" if job.tls else f"http://127.0.0.1:{server.port}"
        )
        options = ["-t1", f"-c{job.clients}", f"-d{seconds}s", "-s", str(script)]
        with on_cpus(self._cpus):
            told = subprocess.run(
                [self._program, *options, at + path],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + WRK_GRACE_S,
            )
        return told.stdout + told.stderr


def lua(job: Job) -> str:
    """Return wrk's script of a job."""
    fields = {**BROWSER_FIELDS, **job.fields}
    lines = (f"wrk.headers['{name}'] = '{value}'" for name, value in fields.items())
    return WRK_SCRIPT.format(fields="\n".join(lines), group=job.group)


def read_round(job: Job, output: str, spent_s: float, fetched: int) -> Round:
    """Read wrk's words. Raises BenchError when there is no result in them."""
    match = RESULT.search(output)
    if match is None:
        raise BenchError(f"wrk did not come to a result:\n{output}")
    requests, received, microseconds, p99_us, errors = map(int, match.groups())
    if requests == 0:
        raise BenchError(f"not one answer to {job.path}:\n{output}")
    # wrk knows no error but of statuses from 400: a redirect or an empty answer is short, and an
    # answer with the content that the client has already is long.
    too_short = received < requests * len(job.answer)
    too_long = not job.answer and received >= requests * KB
    return Round(
        requests=requests,
        errors=errors + too_short + too_long,
        duration_s=microseconds / 1e6,
        cpu_s=spent_s,
        p99_s=p99_us / 1e6,
        fetches=fetched,
    )
