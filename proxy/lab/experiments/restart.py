"""The application dies in the middle of the day: what a visitor sees of it."""

import threading
import time
from itertools import pairwise
from typing import final

from proxy.lab.experiment import OVERHEAD_S, P50, P99, Due
from proxy.lab.load_job import GOOD, Crowd
from proxy.lab.load_job import Visit as Timed
from proxy.lab.model import Mark, Metric, Moment, Picture, Timeline
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit, lies, percentile, visitor

STEP_S = 0.1
KILL_AT = 0.2
# systemd's RestartSec, for the stacks that nobody else starts again.
RESTART_S = 0.1
POLL_S = 0.01
# Who waits longer has left; most browsers wait for a minute or more.
PATIENCE_S = 10.0


@final
class Restart:
    """The process is killed, not asked: as the kernel does when memory is short."""

    key = "restart"
    number = 7
    title = "The application is killed, and comes back"
    question = "How many errors does a visitor see?"
    picture: Picture = "timeline"
    headline = "errors"
    metrics: list[Metric] = [  # noqa: RUF012
        Metric(key="errors", title="Errors that a visitor sees", unit="", better="less"),
        Metric(key="gap", title="Longest time without a good answer", unit="s", better="less"),
        P50,
        P99,
    ]
    due: Due = "first round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        return (
            f"A visitor asks at a constant rate for {sizes.restart_s:g} s. After a fifth of it "
            "the application's process is killed. proxyd and gunicorn start it again themselves; "
            "for the others the lab does it a tenth of a second later, as systemd would. The "
            "visitor tries nothing twice: what was being answered when the process died is lost."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return sizes.restart_s + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        marks: list[Mark] = []
        over = threading.Event()
        threads: list[threading.Thread] = []

        def ready(_: int) -> None:
            thread = threading.Thread(target=kill_and_revive, args=(visit, marks, over))
            threads.append(thread)
            thread.start()

        crowd = Crowd(
            kind="open",
            ask=visit.page("/lab/dynamic"),
            count=visit.sizes.clients * 4,
            rate=visit.rates.steady / 2,
        )
        job = visit.job(visit.sizes.restart_s, crowd, timeout_s=PATIENCE_S)
        try:
            told = visit.generator.run(job, ready)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        visit.stack.restore()
        seen = Observation()
        visitor(seen, told, 0)
        visits = told.crowds[0].visits
        seen.figures["errors"] = seen.errors
        seen.figures["gap"] = gap_s(visits, visit.sizes.restart_s)
        seen.timeline = timeline(visits, marks)
        lies(seen, any_status=True)
        return seen


def kill_and_revive(visit: Visit, marks: list[Mark], over: threading.Event) -> None:
    """Kill the application when it is time, and see to it that it comes back."""
    began_at = time.monotonic()
    if over.wait(visit.sizes.restart_s * KILL_AT):
        return
    visit.stack.kill_application()
    marks.append(Mark(at_s=time.monotonic() - began_at, text="the application is killed"))
    while not over.wait(POLL_S):
        if visit.stack.dead():
            time.sleep(RESTART_S)
            visit.stack.revive()
            text = "the lab starts it again"
            marks.append(Mark(at_s=time.monotonic() - began_at, text=text))


def gap_s(visits: list[Timed], duration_s: float) -> float:
    """Return the longest time in which no good answer came."""
    came = sorted(one.at_s + one.took_ms / 1000 for one in visits if one.outcome == GOOD)
    times = [0.0, *came, max([duration_s, *came])]
    return max(later - earlier for earlier, later in pairwise(times))


def timeline(visits: list[Timed], marks: list[Mark]) -> Timeline:
    """Sort visits into moments, by when they were meant to start."""
    steps: dict[int, list[Timed]] = {}
    for one in visits:
        steps.setdefault(int(one.at_s / STEP_S), []).append(one)
    return Timeline(
        step_s=STEP_S,
        moments=[moment(step, steps.get(step, [])) for step in range(max(steps, default=-1) + 1)],
        marks=marks,
    )


def moment(step: int, visits: list[Timed]) -> Moment:
    """Return one moment of a timeline."""
    good = sorted(one.took_ms for one in visits if one.outcome == GOOD)
    return Moment(
        at_s=round(step * STEP_S, 3),
        good=len(good),
        errors=len(visits) - len(good),
        median_ms=percentile(good, 50) if good else 0.0,
        worst_ms=good[-1] if good else 0.0,
    )
