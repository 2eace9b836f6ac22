"""One round of load: wrk with a browser's head, its count of answers, and what the server used.

wrk, and not the lab's generator: a request costs that more than it costs nginx, so that a server
with a CPU of its own would wait for it, and it speaks no TLS. What wrk cannot do, to come at times
of its own whatever became of the request before, is the lab's part (see `bench.latency`).
"""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import final

from bench.checks import check_fetches, check_stored, fetches
from bench.cpu import family, on_cpus, used_s
from bench.engines.engine import require
from bench.errors import BenchError
from bench.handshakes import shake_hands
from bench.jobs import BROWSER_FIELDS, KB, Job
from bench.servers import Server

# How long wrk may take beyond its own duration: it waits for answers that are under way.
WRK_GRACE_S = 30
# An answer that takes longer is an error; ten thousand clients have to wait for their turn.
TIMEOUT_S = 10
# Of the last requests of a round some may not have been answered.
LAST = 2
# How long clients think between two requests where the load has a rate.
PAUSE_MS = 20
# So many clients are connected in a second, on a machine that has more to do; and how long before
# their first requests the measuring begins.
OPENED_PER_S, SPARE_S = 1000, 0.2

# Lua: the fields, which URL comes next, when, and the figures of the end in a form that is easy to
# read. One of four orders: always the same URL; a new one after each `group` of requests; one of
# `among` by chance; all from `first` to the last of `among` in turn.
WRK_SCRIPT = """
{fields}
local group, among, first = {group}, {among}, {first}
local asked = 0
local function number()
  asked = asked + 1
  if group > 0 then return math.floor(asked / group) end
  if first < 0 then return math.random(0, among - 1) end
  return math.min(first + asked - 1, among - 1)
end
if group > 0 or among > 0 then
  request = function() return wrk.format(nil, wrk.path .. number()) end
end
{delay}
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("result requests=%d bytes=%d microseconds=%d p99=%d errors=%d\\n",
    summary.requests, summary.bytes, summary.duration, latency:percentile(99),
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""
# How long a client waits before each request: a time by chance; or until all of them are connected.
THINK = "delay = function() return math.random(0, {most_ms}) end"
SETTLE = """
local left = {clients}
delay = function()
  left = left - 1
  return left >= 0 and {open_ms} or 0
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
        path = (
            f"{job.path}/{next(self._rounds)}-"
            if job.group
            else f"{job.path}{'/' * bool(job.among)}"
        )
        fetched, before = fetches(self._upstream_port), family(server.roots)
        output = self._run(self._command(job, server, path, seconds), seconds)
        spent_s = used_s(before, family(server.roots))
        fetched = fetches(self._upstream_port) - fetched
        taken = read_round(job, output, spent_s, fetched)
        check_fetches(job, server.name, taken.requests, fetched)
        if job.group:
            last = max((taken.requests - job.clients) // job.group - LAST, 1)
            check_stored(job, server, f"{path}{last}")
        return taken

    def fill(self, job: Job, server: Server, first: int, seconds: int) -> tuple[int, int]:
        """Ask for what there is `among` from `first` on; return how often, and what was fetched.

        Raises BenchError.
        """
        fetched = fetches(self._upstream_port)
        command = self._command(job, server, f"{job.path}/", seconds, first=first)
        output = self._run(command, seconds)
        fetched = fetches(self._upstream_port) - fetched
        taken = read_round(job, output, 0.0, fetched)
        if taken.errors:
            raise BenchError(f"{server.name} made {taken.errors} errors while it stored")
        return taken.requests, fetched

    def settled(self, job: Job, server: Server, seconds: int) -> Round:
        """Load it from when all clients are connected: to open one is no part of a request.

        Raises BenchError.
        """
        settle_s = open_s(job)
        delay = SETTLE.format(clients=job.clients, open_ms=settle_s * 1000)
        command = self._command(job, server, job.path, settle_s + seconds, delay=delay)
        fetched = fetches(self._upstream_port)
        with self._running(command) as process:
            time.sleep(settle_s - SPARE_S)
            before = family(server.roots)
            output, _ = process.communicate(timeout=seconds + WRK_GRACE_S)
            spent_s = used_s(before, family(server.roots))
        fetched = fetches(self._upstream_port) - fetched
        taken = read_round(job, output, spent_s, fetched)
        check_fetches(job, server.name, taken.requests, fetched)
        return replace(taken, duration_s=taken.duration_s - settle_s)

    @contextmanager
    def beside(self, job: Job, server: Server, rate: float, seconds: int) -> Iterator[list[Round]]:
        """Load `server` at about a rate while the block runs; then gives what came to that.

        Clients think for a while between an answer and the next request, each by chance. Raises
        BenchError when the block took longer, or when something else was done than is measured.
        """
        some = replace(job, clients=max(1, round(rate * PAUSE_MS / 1000)))
        delay = THINK.format(most_ms=2 * PAUSE_MS)
        command = self._command(some, server, job.path, seconds, delay=delay)
        taken: list[Round] = []
        fetched, before = fetches(self._upstream_port), family(server.roots)
        with self._running(command) as process:
            yield taken
            if process.poll() is not None:
                raise BenchError("the load ended before what was measured beside it")
            output, _ = process.communicate(timeout=seconds + WRK_GRACE_S)
        spent_s = used_s(before, family(server.roots))
        fetched = fetches(self._upstream_port) - fetched
        taken.append(read_round(job, output, spent_s, fetched))
        if not job.fetches:
            check_fetches(some, server.name, taken[0].requests, fetched)

    @contextmanager
    def _running(self, command: list[str]) -> Iterator[subprocess.Popen[str]]:
        with on_cpus(self._cpus):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def _handshakes(self, server: Server, seconds: int) -> Round:
        before = family(server.roots)
        number, duration_s = shake_hands(server, seconds, self._cpus)
        spent_s = used_s(before, family(server.roots))
        return Round(requests=number, errors=0, duration_s=duration_s, cpu_s=spent_s)

    def _command(
        self,
        job: Job,
        server: Server,
        path: str,
        seconds: int,
        *,
        first: int = -1,
        delay: str = "",
    ) -> list[str]:
        """Write a script and return the command that runs it."""
        script = self._folder / f"{job.name}.lua"
        script.write_text(lua(job, first=first, delay=delay))
        at = (
            f"https://127.0.0.1:{server.tls_port}" if job.tls else f"http://127.0.0.1:{server.port}"
        )
        options = ["-t1", f"-c{job.clients}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s"]
        return [self._program, *options, "-s", str(script), at + path]

    def _run(self, command: list[str], seconds: int) -> str:
        """Return what wrk has to say."""
        with on_cpus(self._cpus):
            told = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds + WRK_GRACE_S,
            )
        return told.stdout + told.stderr


def open_s(job: Job) -> int:
    """Return how long it may take until all clients are connected."""
    return 2 + job.clients // OPENED_PER_S


def lua(job: Job, *, first: int = -1, delay: str = "") -> str:
    """Return wrk's script of a job."""
    fields = {**BROWSER_FIELDS, **job.fields}
    lines = (f"wrk.headers['{name}'] = '{value}'" for name, value in fields.items())
    return WRK_SCRIPT.format(
        fields="\n".join(lines),
        group=job.group,
        among=job.among,
        first=first,
        delay=delay,
    )


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
