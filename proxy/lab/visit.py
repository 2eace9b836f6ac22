"""One visit to a running stack: what an experiment has in its hands, and what it brings back."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import final

from proxy.lab.generator import Generator
from proxy.lab.load_job import (
    GOOD,
    TIMED_OUT,
    WRONG_BODY,
    Ask,
    Crowd,
    LoadJob,
    Told,
)
from proxy.lab.load_job import Visit as Timed
from proxy.lab.model import Probe, Process, Span, Timeline
from proxy.lab.running import Running
from proxy.lab.services import HOST
from proxy.lab.sizes import Sizes
from proxy.lab.usage import Cpu

# As a browser has them, but for Accept-Encoding: all stacks are to send the same bytes.
BROWSER_FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-GB,en;q=0.8,de-DE;q=0.5,de;q=0.3\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: theme=dark; consent=2026-01-02; visits=7\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "Priority: u=0, i\r\n"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Requests per second for open crowds, the same for every stack.

    `steady`: what one process of the application can well do; `burst`: many times what it can.
    """

    steady: float
    burst: float


@final
@dataclass(slots=True, kw_only=True)
class Observation:
    """What one round of an experiment saw. `latencies_ms` are of the open crowd.

    `lie`: which wrong answers there were; one such round is enough for a failure. `silence`: what
    came instead of any right answer; that is a failure when it is so in all rounds.
    """

    figures: dict[str, float] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    timeline: Timeline | None = None
    probes: list[Probe] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    journey: list[Span] = field(default_factory=list)
    generator_cpu: float = 0.0
    lie: str = ""
    silence: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Every answer that was not the right one, and none at all."""
        return sum(self.answers.values()) - self.answers[GOOD]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A stack that runs, and what loads it. `files`: the content of the static files by name."""

    stack: Running
    generator: Generator
    sizes: Sizes
    rates: Rates
    key: bytes
    files: dict[str, bytes]

    def page(self, path: str) -> Ask:
        """Return a request for a page that carries its digest."""
        return Ask(head=head("GET", path), key=self.key)

    def file(self, name: str) -> Ask:
        """Return a request for a static file."""
        return Ask(head=head("GET", f"/static/{name}"), body=self.files[name])

    def job(self, duration_s: float, *crowds: Crowd, timeout_s: float | None = None) -> LoadJob:
        """Return a job for this stack."""
        return LoadJob(
            host=HOST,
            port=self.stack.port,
            duration_s=duration_s,
            timeout_s=self.sizes.timeout_s if timeout_s is None else timeout_s,
            crowds=list(crowds),
        )

    def closed(self, ask: Ask, duration_s: float) -> tuple[Told, Cpu]:
        """Load it as fast as it answers; return what came and the CPU time that it took."""
        crowd = Crowd(kind="closed", ask=ask, count=self.sizes.clients)
        before = self.stack.cpu()
        told = self.generator.run(self.job(duration_s, crowd))
        return told, self.stack.cpu() - before


def head(method: str, path: str, *fields: str) -> bytes:
    """Write the head of a request as a browser would."""
    more = "".join(f"{field}\r\n" for field in fields)
    return f"{method} {path} HTTP/1.1\r\nHost: lab.test\r\n{BROWSER_FIELDS}{more}\r\n".encode()


def latencies(visits: list[Timed]) -> list[float]:
    """Return the milliseconds of what was answered, or given up: that waited at least so long."""
    return [visit.took_ms for visit in visits if visit.outcome in {GOOD, TIMED_OUT}]


def percentile(ordered: list[float], percent: float) -> float:
    """Return a percentile of values in order: the least value that so many are not above."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def visitor(seen: Observation, told: Told, place: int) -> None:
    """Add what the visitor (an open crowd) felt."""
    crowd = told.crowds[place]
    seen.answers.update(crowd.answers)
    seen.generator_cpu = max(seen.generator_cpu, told.cpu_s / told.took_s)
    times = sorted(latencies(crowd.visits))
    seen.latencies_ms += times
    if crowd.answers.get(GOOD, 0):
        seen.figures |= {"p50": percentile(times, 50), "p99": percentile(times, 99)}
    else:
        seen.silence = f"no right answer at all: {listed(seen.answers)}"


def lies(seen: Observation, *, any_status: bool = False) -> None:
    """Make an observation of wrong answers a failure: of bodies, and unless allowed of statuses."""
    wrong = Counter(
        {
            name: count
            for name, count in seen.answers.items()
            if name == WRONG_BODY or (name.isdecimal() and not any_status)
        }
    )
    if wrong:
        seen.lie = (
            f"wrong answers: {listed(wrong)} of {sum(seen.answers.values()):,}; "
            "a server that is fast with them is not fast"
        )


def listed(answers: Counter[str]) -> str:
    """Write outcomes with their numbers, a status as what it is."""
    return ", ".join(
        f"{count:,} times {'status ' if name.isdecimal() else ''}{name}"
        for name, count in answers.most_common()
    )
