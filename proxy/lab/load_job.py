"""What the lab asks of the load generator, and what that tells: the values on their pipe.

One job is one line of JSON to the generator; it answers with a line of `Ready` when the crowds that
stay (idle, slow) are in place, and with a line of `Told` at the end.
"""

from typing import Literal

import msgspec

# Outcomes of a request; the HTTP status, such as "503", where that is not the expected one.
GOOD = "good"
WRONG_BODY = "wrong body"
REFUSED = "refused"
BROKEN = "broken off"
TIMED_OUT = "timed out"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its right answer.

    `body`: the very bytes; None: whatever carries the application's digest of itself, by `key`.
    """

    head: bytes
    status: int = 200
    body: bytes | None = None
    key: bytes = b""


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Clients of one kind.

    "closed": `count` connections, each asks again as soon as it has its answer. "open": `rate`
    requests per second, whether or not those before have been answered, on up to `count`
    connections. "idle": `count` connections that ask once and stay. "upload" and "download":
    `count` clients with `rate` bytes per second each. `exact`: an open crowd looks for its next
    time without a rest, for a generator that has a CPU to itself; else a latency has up to a
    millisecond of its own in it.
    """

    kind: Literal["closed", "open", "idle", "upload", "download"]
    ask: Ask
    count: int
    rate: float = 0.0
    content: int = 0
    exact: bool = False


class LoadJob(msgspec.Struct, frozen=True, kw_only=True):
    """Crowds that come at the same time to one address, for a time."""

    host: str
    port: int
    duration_s: float
    timeout_s: float
    crowds: list[Crowd]


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The crowds that stay are in place, the others begin now."""

    connected: int


class Visit(msgspec.Struct, frozen=True, array_like=True):
    """A request of an open crowd: when it was meant to start, and how long it took from then."""

    at_s: float
    took_ms: float
    outcome: str


class CrowdTold(msgspec.Struct, frozen=True, kw_only=True):
    """What a crowd got."""

    answers: dict[str, int]
    visits: list[Visit]
    connected: int = 0


class Told(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a job came to: `took_s` for its crowds that ask, `cpu_s` of the generator meanwhile."""

    crowds: list[CrowdTold]
    took_s: float
    cpu_s: float
