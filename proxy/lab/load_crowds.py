"""The crowds of the load generator that ask: closed loops, and visitors at a constant rate.

An open crowd sends at the times that its rate says. A request that finds no free connection waits
for one, and its latency counts from the time at which it was meant to start: leaving that out
("coordinated omission") is how a server that stands still for a second looks fast. Times are of
`time.monotonic`: uvloop's own clock moves in steps of a millisecond.
"""

import asyncio
import time
from collections import Counter, deque
from typing import final

from proxy.lab.load_client import Checker, Client, connect
from proxy.lab.load_job import GOOD, REFUSED, TIMED_OUT, Crowd, CrowdTold, LoadJob, Visit

# How long a client that was refused waits before it tries again.
RETRY_S = 0.02
SWEEP_S = 0.05
TICK_S = 0.001
# Times of visits that are kept; 10,000 per second for as long as a round may take.
VISITS_LIMIT = 200_000


@final
class ClosedCrowd:
    """Connections that ask again as soon as they are answered."""

    def __init__(self, job: LoadJob, crowd: Crowd) -> None:
        self._job = job
        self._crowd = crowd
        self._checker = Checker(crowd.ask)
        self._answers: Counter[str] = Counter()
        self._clients: list[Client] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False

    async def run(self) -> CrowdTold:
        """Ask for as long as the job says, then wait for what has been asked.

        Answers that nobody waits for would cost the stack time that belongs to no request, and
        stand in the way of the next crowd.
        """
        ends_at = time.monotonic() + self._job.duration_s
        for _ in range(self._crowd.count):
            self._renew()
        while time.monotonic() < ends_at:
            await asyncio.sleep(min(SWEEP_S, max(0.0, ends_at - time.monotonic())))
            self._sweep(time.monotonic())
        self._over = True
        for task in self._tasks:
            task.cancel()
        while any(client.waiting for client in self._clients):
            await asyncio.sleep(TICK_S)
            self._sweep(time.monotonic())
        for client in self._clients:
            client.give_up(GOOD)
        return CrowdTold(answers=dict(self._answers), visits=[])

    def _renew(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        while not self._over:
            client = await connect(self._job.host, self._job.port, self._checker, self._done)
            if client is not None:
                self._clients.append(client)
                client.send(self._crowd.ask.head, time.monotonic())
                return
            self._answers[REFUSED] += 1
            await asyncio.sleep(RETRY_S)

    def _done(self, client: Client, outcome: str) -> None:
        self._answers[outcome] += 1
        if self._over:
            return
        if client.open:
            client.send(self._crowd.ask.head, time.monotonic())
        else:
            self._clients.remove(client)
            self._renew()

    def _sweep(self, now: float) -> None:
        for client in list(self._clients):
            if client.waiting and now - client.began_at > self._job.timeout_s:
                client.give_up(TIMED_OUT)


@final
class OpenCrowd:
    """Visitors who come at a constant rate, whatever became of those before them."""

    def __init__(self, job: LoadJob, crowd: Crowd) -> None:
        self._job = job
        self._crowd = crowd
        self._checker = Checker(crowd.ask)
        self._answers: Counter[str] = Counter()
        self._visits: list[Visit] = []
        self._free: list[Client] = []
        self._busy: set[Client] = set()
        self._waiting: deque[float] = deque()
        self._connecting: dict[asyncio.Task[Client | None], float] = {}
        self._began_at = 0.0

    async def run(self) -> CrowdTold:
        """Come for as long as the job says, then wait for the answers that are still due."""
        self._began_at = began_at = time.monotonic()
        step_s = 1 / self._crowd.rate
        rest_s = 0 if self._crowd.exact else TICK_S
        total = max(1, round(self._job.duration_s * self._crowd.rate))
        started = 0
        swept_at = began_at
        while started < total or self._busy or self._waiting or self._connecting:
            now = time.monotonic()
            while started < total and began_at + started * step_s <= now:
                self._start(began_at + started * step_s)
                started += 1
            if now - swept_at > SWEEP_S:
                swept_at = now
                self._sweep(now)
            await asyncio.sleep(rest_s)
        for client in self._free:
            client.give_up(GOOD)
        return CrowdTold(answers=dict(self._answers), visits=self._visits)

    def _start(self, due_at: float) -> None:
        while self._free:
            client = self._free.pop()
            if client.open:
                self._busy.add(client)
                client.send(self._crowd.ask.head, due_at)
                return
        if len(self._busy) + len(self._connecting) < self._crowd.count:
            job = self._job
            opening = connect(job.host, job.port, self._checker, self._done)
            task = asyncio.get_running_loop().create_task(opening)
            self._connecting[task] = due_at
            task.add_done_callback(self._connected)
        else:
            self._waiting.append(due_at)

    def _connected(self, task: "asyncio.Task[Client | None]") -> None:
        """Send the request, or let the next one have the place."""
        due_at = self._connecting.pop(task)
        if task.cancelled():  # by `_sweep`
            self._next()
        elif (client := task.result()) is None:
            self._note(due_at, REFUSED)
            self._next()
        else:
            self._busy.add(client)
            client.send(self._crowd.ask.head, due_at)

    def _done(self, client: Client, outcome: str) -> None:
        if client not in self._busy:
            return
        self._busy.discard(client)
        self._note(client.began_at, outcome)
        if client.open:
            self._free.append(client)
        self._next()

    def _next(self) -> None:
        if self._waiting:
            self._start(self._waiting.popleft())

    def _note(self, due_at: float, outcome: str) -> None:
        self._answers[outcome] += 1
        if len(self._visits) < VISITS_LIMIT:
            took_s = time.monotonic() - due_at
            self._visits.append(Visit(due_at - self._began_at, took_s * 1000, outcome))

    def _sweep(self, now: float) -> None:
        """Give up what has waited too long, wherever it waits."""
        late = now - self._job.timeout_s
        for client in [client for client in self._busy if client.began_at < late]:
            client.give_up(TIMED_OUT)
        for task in [task for task, due_at in self._connecting.items() if due_at < late]:
            self._note(self._connecting[task], TIMED_OUT)
            task.cancel()
        while self._waiting and self._waiting[0] < late:
            self._note(self._waiting.popleft(), TIMED_OUT)
