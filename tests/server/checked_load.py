"""Constant load on a cache whose every answer is checked: the right bytes, and none too old.

A connection that breaks is no fault here, nor is an answer that is cut off: its client knows.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from tests.server.daemon import Daemon
from tests.server.origin import NOT_MODIFIED, Answer, Asked, Origin, digest
from tests.server.wire import Message, Wire

# What a client thinks between two requests, and before it connects anew.
THINK_S = 0.003
# An answer is reckoned from when it was asked for, and a client from before it asks; between these
# two there is only that clients wait for an answer together.
TOGETHER_S = 0.5


class Contents:
    """Answers /for/SECONDS/BYTES/NAME: other bytes at most times, now and then a 304.

    SECONDS is how long each is fresh.
    """

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def __call__(self, asked: Asked) -> Answer:
        _, _, seconds, size, _ = asked.target.split("/")
        held = self._held.get(asked.target, b"")
        expected = asked.fields.get("if-none-match")
        if expected == f'"{digest(held)}"' and asked.number % 3:
            return Answer(held, self._fields(seconds, held), NOT_MODIFIED)
        content = self._held[asked.target] = os.urandom(int(size))
        return Answer(content, self._fields(seconds, content))

    def _fields(self, seconds: str, content: bytes) -> tuple[str, ...]:
        return (f"Cache-Control: public, max-age={seconds}", f'ETag: "{digest(content)}"')


class CheckedLoad:
    """Clients that ask for `targets` of `Contents`, and what they have found."""

    def __init__(self, origin: Origin, connect: Callable[[], Wire], targets: list[str]) -> None:
        self.failures: list[str] = []
        self.answers = 0
        self.hits = 0
        self.broken = 0
        self._origin = origin
        self._connect = connect
        self._targets = targets
        self._purged_at: dict[str, float] = {}
        self._stopping = threading.Event()

    def purge(self, daemon: Daemon, target: str) -> None:
        """Purge a target; once that is done, nothing may come that is older."""
        begun_at = monotonic()
        assert daemon.ask(target, method="PURGE").status == 200
        self._purged_at[target] = begun_at

    def ask_on(self, seed: int) -> None:
        """Ask for one target after the other until told to stop."""
        chosen = random.Random(seed)
        wire: Wire | None = None
        while not self._stopping.wait(THINK_S):
            target = chosen.choice(self._targets)
            not_before = self._purged_at.get(target, 0.0)
            asked_at = monotonic()
            try:
                wire = wire or self._connect()
                wire.get(target)
                message = wire.message()
            except (OSError, EOFError):
                self.broken += 1
                _close(wire)
                wire = None
                continue
            except AssertionError as error:
                self.failures.append(f"{target}: malformed: {error}")
                return
            self._check(target, message, asked_at, not_before)
            if message.get("connection") == "close":
                _close(wire)
                wire = None
        _close(wire)

    def _check(self, target: str, message: Message, asked_at: float, not_before: float) -> None:
        self.answers += 1
        said = message.get("cache-status")
        self.hits += (said or "").startswith("proxyd; hit")
        sent = self._origin.sent.get(digest(message.body))
        if message.status != 200 or sent is None or sent.target != target:
            self.failures.append(f"{target}: {message.start}, {len(message.body)} bytes, {said}")
            return
        age_s = asked_at - sent.current_at
        if age_s > int(target.split("/")[2]) + TOGETHER_S:
            self.failures.append(f"{target}: {age_s:.3f} s old, {said}")
        if sent.current_at < not_before:
            self.failures.append(f"{target}: from before its purge, {said}")

    def stop(self) -> None:
        self._stopping.set()


def _close(wire: Wire | None) -> None:
    if wire is not None:
        wire.close()


@contextmanager
def checked_load(
    origin: Origin, connect: Callable[[], Wire], targets: list[str], clients: int = 6
) -> Iterator[CheckedLoad]:
    """Keep so many clients busy."""
    load = CheckedLoad(origin, connect, targets)
    threads = [threading.Thread(target=load.ask_on, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
