"""A whole run of the lab: every stack in turn, every round, one stack at a time.

Rounds are interleaved: all stacks are visited once before any is visited again, so that what
disturbs the machine for a while disturbs them all.
"""

import json
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import proxy
from proxy.errors import LabError
from proxy.lab import application
from proxy.lab.calibrate import calibrate, conclusion
from proxy.lab.catalog import THREADS, Kind
from proxy.lab.experiment import Experiment
from proxy.lab.experiments.files import LARGE, LARGE_BYTES, SMALL, SMALL_BYTES
from proxy.lab.generator import Generator
from proxy.lab.machine import cpus, foreign_s, machine, versions
from proxy.lab.model import FORMAT, Options, Report, Result, Stack
from proxy.lab.model import Experiment as Found
from proxy.lab.running import Running, running
from proxy.lab.sizes import Sizes
from proxy.lab.summing import summed
from proxy.lab.visit import Observation, Rates, Visit

OWN = "the lab's own page"
REFERENCE_TIMEOUT_S = 60.0
# Of what one core could make, if it did nothing else; so that no stack is over its capacity.
STEADY_SHARE, BURST_TIMES = 0.25, 8.0
STEADY_LIMITS, BURST_LIMITS = (4.0, 200.0), (50.0, 3000.0)

# Above this, other programs stand in the way of those that are measured.
QUIET_SHARE = 0.05
NO_RECOVERY = "It did not answer any more afterwards, and was started again."
# What the plan reckons with: until the first stack starts; and the start and the end of a stack.
BEGIN_S, START_S = 2.0, 1.5

# Called with what is being done, and with how many steps of the plan are.
Advance = Callable[[str, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be run. `target`: "module:app", "" for the lab's own; `page`: its path."""

    pace: str
    sizes: Sizes
    kinds: Sequence[Kind]
    experiments: Sequence[Experiment]
    target: str
    page: str

    def due(self, number: int) -> list[Experiment]:
        """Return the experiments of a round, counted from 0."""
        dues = {"every round"}
        if number == 0:
            dues.add("first round")
        if number == self.sizes.rounds - 1:
            dues.add("last round")
        return [one for one in self.experiments if one.due in dues]

    def installed(self) -> int:
        """Return how many stacks will run."""
        return sum(not kind.missing() for kind in self.kinds)

    def steps(self) -> int:
        """Return of how many observations it consists."""
        rounds = range(self.sizes.rounds)
        return self.installed() * sum(len(self.due(number)) for number in rounds)

    def takes_s(self) -> float:
        """Return about how long it takes."""
        round_s = START_S + self.sizes.warm_up_s
        observed_s = sum(
            one.takes_s(self.sizes)
            for number in range(self.sizes.rounds)
            for one in self.due(number)
        )
        return BEGIN_S + self.installed() * (self.sizes.rounds * round_s + observed_s)


@final
class Run:
    """Collects what the visits see."""

    def __init__(self, plan: Plan, folder: Path, advance: Advance) -> None:
        self._plan = plan
        self._advance = advance
        self._folder = folder
        self._key = secrets.token_hex(16).encode()
        self._files = {
            SMALL: os.urandom(SMALL_BYTES),
            LARGE: os.urandom(LARGE_BYTES),
        }
        self._environment = environment(plan, folder, self._key)
        self._stacks: dict[str, Stack] = {}
        self._seen: dict[tuple[str, str], list[Observation]] = {}
        self._broken: dict[str, str] = {}
        self._done = 0

    def run(self) -> Report:
        """Measure everything. Raises LabError when nothing can be measured."""
        began_at, foreign_began_s = time.monotonic(), foreign_s()
        files = self._folder / "static"
        files.mkdir()
        for name, content in self._files.items():
            (files / name).write_bytes(content)
        allow_files()
        page_s = self._reference()
        rates = Rates(
            steady=within(STEADY_SHARE / page_s, STEADY_LIMITS),
            burst=within(BURST_TIMES / page_s, BURST_LIMITS),
        )
        with Generator(self._environment) as generator:
            self._advance("calibrating the load generator", 0)
            calibration = calibrate(generator, self._plan.sizes, self._environment)
            for number in range(self._plan.sizes.rounds):
                for kind in self._plan.kinds:
                    self._visit(kind, number, generator, rates)
        experiments = [self._found(experiment) for experiment in self._plan.experiments]
        took_s, others_s = time.monotonic() - began_at, foreign_s() - foreign_began_s
        return Report(
            format=FORMAT,
            made_at=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
            took_s=round(took_s, 1),
            machine=machine(),
            options=self._options(),
            versions=versions(),
            stacks=[self._stacks[kind.key] for kind in self._plan.kinds],
            experiments=experiments,
            calibration=replace(calibration, conclusion=conclusion(calibration, experiments)),
            notes=[
                f"The page takes {page_s * 1e6:,.0f} µs of one core without any server; visitors "
                f"at a constant rate are {rates.steady:,.0f} per second, the burst "
                f"{rates.burst:,.0f}. Every stack has one process with {THREADS} threads for "
                "the application.",
                disturbed(others_s / (took_s * cpus())),
                *self._broken.values(),
            ],
        )

    def _options(self) -> Options:
        return Options(
            pace=self._plan.pace,
            rounds=self._plan.sizes.rounds,
            round_s=self._plan.sizes.closed_s,
            application=self._plan.target or OWN,
            page=self._plan.page,
        )

    def _reference(self) -> float:
        """Return how many seconds the page takes. Raises LabError when it is no page."""
        try:
            told = subprocess.run(
                [sys.executable, "-m", "proxy.lab.reference"],
                env=self._environment,
                cwd=self._folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=REFERENCE_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise LabError(
                f"{self._name()} made no page within {REFERENCE_TIMEOUT_S:.0f} s"
            ) from None
        if told.returncode:
            reason = told.stderr.strip().rpartition("\n")[2]
            raise LabError(f"{self._name()} cannot be loaded: {reason}")
        page = json.loads(told.stdout.splitlines()[-1])
        if not page["status"].startswith("200"):
            raise LabError(
                f"{self._name()} answers {self._plan.page} with {page['status']}; name a page "
                "that is there for everybody with --page"
            )
        return float(page["page_s"])

    def _name(self) -> str:
        return self._plan.target or OWN

    def _visit(self, kind: Kind, number: int, generator: Generator, rates: Rates) -> None:
        """Start a stack, do what is due in this round, and end it."""
        missing = kind.missing()
        if missing or kind.key in self._broken:
            self._stacks.setdefault(kind.key, stack(kind, None, missing))
            return
        self._advance(f"{kind.title}: starting", self._done)
        try:
            with running(
                kind,
                self._folder / f"{kind.key}-{number}",
                self._folder / "static",
                self._environment,
            ) as started:
                self._stacks.setdefault(kind.key, stack(kind, started, ""))
                visit = Visit(
                    stack=started,
                    generator=generator,
                    sizes=self._plan.sizes,
                    rates=rates,
                    key=self._key,
                    files=self._files,
                )
                visit.closed(visit.page("/lab/dynamic"), self._plan.sizes.warm_up_s)
                for experiment in self._plan.due(number):
                    self._advance(f"{kind.title}: {experiment.title}", self._done)
                    seen = self._seen.setdefault((experiment.key, kind.key), [])
                    seen.append(experiment.observe(visit))
                    # What it has left undone is not to be done in the next one's time.
                    if experiment.due != "every round" and not started.recover():
                        seen[-1].notes.append(NO_RECOVERY)
                    self._done += 1
        except LabError as error:
            self._broken[kind.key] = str(error)
            self._stacks.setdefault(kind.key, stack(kind, None, ""))

    def _found(self, experiment: Experiment) -> Found:
        return Found(
            key=experiment.key,
            number=experiment.number,
            title=experiment.title,
            question=experiment.question,
            method=experiment.method(self._plan.sizes),
            picture=experiment.picture,
            headline=experiment.headline,
            metrics=experiment.metrics,
            results=[self._result(experiment, kind) for kind in self._plan.kinds],
        )

    def _result(self, experiment: Experiment, kind: Kind) -> Result:
        skipped = self._stacks[kind.key].skipped
        if skipped:
            return Result(stack=kind.key, outcome="skipped", reason=skipped)
        if kind.key in self._broken:
            return Result(
                stack=kind.key,
                outcome="failed",
                reason=self._broken[kind.key].partition(":\n")[0],
            )
        return summed(kind.key, self._seen[experiment.key, kind.key])


def measure(plan: Plan, advance: Advance) -> Report:
    """Run the lab in a folder of its own, which is gone afterwards. Raises LabError."""
    # A short path: a unix socket's name has 100 bytes, and macOS's own temporary folder is long.
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:
        return Run(plan, Path(folder).resolve(), advance).run()


def stack(kind: Kind, started: Running | None, skipped: str) -> Stack:
    """Return what a report says of a stack."""
    return Stack(
        key=kind.key,
        title=kind.title,
        summary=kind.summary,
        layers=list(kind.layers),
        version="" if skipped else kind.version(),
        configuration=started.configuration() if started else [],
        skipped=skipped,
    )


def environment(plan: Plan, folder: Path, key: bytes) -> dict[str, str]:
    """Return the environment of every process: this folder's modules, and what is to be served."""
    places = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    home = Path(proxy.__file__).parents[1]
    if home.name not in {"site-packages", "dist-packages"}:
        places.append(str(home))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(place for place in places if place),
        # Each stack runs as whoever started the lab, nginx too.
        "PROXYD_ALLOW_ROOT": "1",
        # The demo's data, so that the lab leaves the real one alone.
        "TIMELINE_DATABASE": str(folder / "demo" / "timeline.sqlite3"),
        application.APP: plan.target,
        application.PAGE: plan.page,
        application.FILES: str(folder / "static"),
        application.KEY: key.decode(),
    }


def disturbed(share: float) -> str:
    """Say how much of the machine other programs used, and whether the numbers can be trusted."""
    share = within(share, (0.0, 1.0))
    told = f"Other programs used {share:.0%} of the machine's CPU time meanwhile"
    if share <= QUIET_SHARE:
        return f"{told}: it was quiet."
    return f"{told}: measure again when it is quiet, before you believe small differences."


def within(value: float, limits: tuple[float, float]) -> float:
    """Return a value no smaller and no larger than its limits."""
    return min(max(value, limits[0]), limits[1])


def allow_files() -> None:
    """Let this process and all below it open as many files as the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
