"""Constant load: clients that ask again and again, and a count of what went wrong.

A client repeats a request once, on a new connection, when the connection closed before its answer
was complete: that may be done with what is idempotent (RFC 9110 §9.2.2). All else is a failure: an
answer that is not the right one, or that does not come in time. `repeated` counts, so that a test
can say when nobody should have had to.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.process.running import wait_for
from tests.server.wire import Message, Wire

ATTEMPTS = 2
# What a client thinks between two requests, so that these tests leave the daemon some of the CPU.
THINK_S = 0.02

# Gives a target, and the content of the only right answer to it; b"" where any will do.
Question = Callable[[], tuple[str, bytes]]


@dataclass
class Load:
    """What the clients of one run have seen; `turns` is how often each has asked."""

    connect: Callable[[], Wire]
    answers: Counter[int] = field(default_factory=Counter)
    repeated: int = 0
    failures: list[str] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def ask_on(self, client: int, question: Question, *, keep: bool) -> None:
        """Ask again and again until told to stop."""
        wire: Wire | None = None
        while not self.stopping.wait(THINK_S):
            target, content = question()
            for _ in range(ATTEMPTS):
                try:
                    wire = wire or self.connect()
                    message = self.ask_once(wire, target, keep)
                    break
                except (OSError, EOFError):
                    self.repeated += 1
                    drop(wire)
                    wire = None
            else:
                self.failures.append(f"{target} was never answered")
                return
            self.note(target, content, message)
            if message is None or message.get("connection") == "close":
                drop(wire)
                wire = None
            self.turns[client] += 1
        drop(wire)

    def ask_once(self, wire: Wire, target: str, keep: bool) -> Message | None:
        """Return the answer, None for one that failed; raises OSError, EOFError without a whole."""
        wire.get(target, *(() if keep else ("Connection: close",)))
        try:
            return wire.message()
        except TimeoutError:
            self.failures.append(f"{target} was not answered in time")
        except AssertionError as error:
            self.failures.append(f"{target}: {error}")
        return None

    def note(self, target: str, content: bytes, message: Message | None) -> None:
        """Count an answer, and look whether it is the right one."""
        if message is None:
            return
        self.answers[message.status] += 1
        if message.status != 200 or not message.body:
            self.failures.append(f"{target}: {message.start} {message.body[:200]!r}")
        elif content and message.body != content:
            self.failures.append(f"{target}: {len(message.body)} bytes that are not its content")

    def settle(self) -> None:
        """Wait until every client has had an answer to what it asked after this call.

        By then each has met what happened to its connection before.
        """
        before = list(self.turns)
        wait_for(
            lambda: self.failures or all(now >= then + 2 for now, then in self._since(before)),
            "an answer for every client",
            60,
        )

    def _since(self, before: Sequence[int]) -> Iterator[tuple[int, int]]:
        return zip(self.turns, before, strict=True)


def drop(wire: Wire | None) -> None:
    """End a connection; the next request opens another one."""
    if wire is not None:
        wire.close()


def any_answer(target: str) -> Question:
    """Return the question for a target whose content is another one each time."""
    return lambda: (target, b"")


@contextmanager
def load_on(
    connect: Callable[[], Wire], questions: Sequence[str | Question], clients: int
) -> Iterator[Load]:
    """Keep so many clients busy with each question, and as many that connect for each request."""
    load = Load(connect)
    asked = [any_answer(each) if isinstance(each, str) else each for each in questions]
    kinds = [(each, keep) for each in asked for keep in (True, False) for _ in range(clients)]
    load.turns = [0] * len(kinds)
    threads = [
        threading.Thread(target=load.ask_on, args=(number, each), kwargs={"keep": keep})
        for number, (each, keep) in enumerate(kinds)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
