"""Constant load: clients that ask again and again, and a count of what went wrong."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.server.wire import Message, Wire

# A client repeats a request whose connection broke before the first byte of its answer, as browsers
# do (RFC 9110 §9.2.2); one that meets this many breaks in a row has failed.
ATTEMPTS = 5
# What a client thinks between two requests, so that these tests leave the daemon some of the CPU.
THINK_S = 0.005


@dataclass
class Load:
    """What the clients of one run have seen."""

    connect: Callable[[], Wire]
    answers: Counter[int] = field(default_factory=Counter)
    repeated: int = 0
    failures: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def ask_on(self, target: str, *, keep: bool) -> None:
        """Ask for one target again and again until told to stop."""
        wire: Wire | None = None
        while not self.stopping.wait(THINK_S):
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
            self.note(target, message)
            if message is None or message.get("connection") == "close":
                drop(wire)
                wire = None
        drop(wire)

    def ask_once(self, wire: Wire, target: str, keep: bool) -> Message | None:
        """Return the answer, None for one that is malformed; raises OSError, EOFError."""
        wire.get(target, *(() if keep else ("Connection: close",)))
        try:
            return wire.message()
        except AssertionError as error:
            self.failures.append(f"{target}: {error}")
            return None
        except (OSError, EOFError) as error:
            if wire.held:
                self.failures.append(f"{target} was cut off: {error!r}")
            raise

    def note(self, target: str, message: Message | None) -> None:
        """Count an answer, and look whether it is the right one."""
        if message is None:
            return
        self.answers[message.status] += 1
        if message.status != 200 or not message.body:
            self.failures.append(f"{target}: {message.start} {message.body[:200]!r}")


def drop(wire: Wire | None) -> None:
    """End a connection; the next request opens another one."""
    if wire is not None:
        wire.close()


@contextmanager
def load_on(connect: Callable[[], Wire], targets: list[str], clients: int) -> Iterator[Load]:
    """Keep so many clients of each kind busy with each target."""
    load = Load(connect)
    threads = [
        threading.Thread(target=load.ask_on, args=(target,), kwargs={"keep": keep})
        for target in targets
        for keep in (True, False)
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
