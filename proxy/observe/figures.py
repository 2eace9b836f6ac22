"""What is counted on the way of a request: plain integers, which metrics.py publishes each second.

Nothing here is called for a request but what has no cheaper form: `finish` counts in place, because
a call would cost as much again. Pure.
"""

from typing import Final

# Up to these seconds, each bucket without those before it; the last one is for all that is slower.
# Finer than Prometheus's own (5 ms to 10 s) where a cache answers, and up to usual timeouts.
DURATIONS_S: Final[tuple[float, ...]] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
FASTEST_S: Final = DURATIONS_S[0]

# Where the counts of a method begin; those of its status hundreds follow (1 to 9, as any three
# digits may come from an upstream). Methods are a client's to invent, so others share a place.
CLASSES: Final = 10
METHODS: Final = {b"GET": 0, b"HEAD": CLASSES, b"POST": 2 * CLASSES}
OTHER_METHOD: Final = 3 * CLASSES


class RouteFigures:
    """The requests of one route, or of none.

    `requests` is counted at `METHODS[method] + status // 100`, `durations` at the bucket of
    DURATIONS_S; `duration_s` is the sum of all. `sent_bytes` and `received_bytes` are contents
    without heads.
    """

    __slots__ = ("duration_s", "durations", "received_bytes", "requests", "sent_bytes")

    def __init__(self) -> None:
        self.requests = [0] * (4 * CLASSES)
        self.durations = [0] * (len(DURATIONS_S) + 1)
        self.duration_s = 0.0
        self.sent_bytes = 0
        self.received_bytes = 0


class CacheFigures:
    """What the cache did for the requests of clients.

    `hits` were answered with what was fresh, `stale` with what no longer was; `forwarded` has the
    others by the reason of Cache-Status (RFC 9211 §2.2), of which `collapsed` shared the answer
    to another request. `stored` are answers kept, `evicted` those that went from memory for others.
    """

    __slots__ = ("collapsed", "evicted", "forwarded", "hits", "stale", "stored")

    def __init__(self) -> None:
        self.hits = 0
        self.stale = 0
        self.forwarded: dict[bytes, int] = {}
        self.collapsed = 0
        self.stored = 0
        self.evicted = 0

    def forward(self, why: bytes) -> None:
        """Count a request that no stored answer was used for."""
        self.forwarded[why] = self.forwarded.get(why, 0) + 1

    def evict(self, _entry: object) -> None:
        """Count an entry that had to go from memory."""
        self.evicted += 1
