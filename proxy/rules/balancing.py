"""Decides which of several equal servers gets a request.

Pure: chance comes in as a function. Servers are numbers, their order in the configuration. A weight
of 0 means "not now" (it is down, full, or has failed this request already); every `choose` needs at
least one that is more.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol, final

# ketama has 160 points for a server of average weight, and nginx's `hash … consistent` for each
# unit of weight: the shares of equal servers are then within about ten percent of one another.
POINTS = 160
# Envoy's min_weight_percent: a server that got nothing at first would never be warm.
COLDEST = 0.1
# Enough to tell the servers of one group apart, too little to find an address by trying all.
STICKY_BYTES = 2

Load = Callable[[int], int]


class Balancer(Protocol):
    """One way to choose; may remember whose turn it was."""

    def choose(self, weights: Sequence[float], load: Load, key: bytes) -> int:
        """Return a server with a weight; `load` is its requests under way, `key` the request's."""


@final
class RoundRobin:
    """In turn, as often as the weights say, and evenly mixed: 5, 1, 1 is a a b a c a a.

    nginx's "smooth" way: all gain their weight, and the richest pays for all of them.
    """

    __slots__ = ("_gained",)

    def __init__(self, count: int) -> None:
        self._gained = [0.0] * count

    def choose(self, weights: Sequence[float], load: Load, key: bytes) -> int:
        """Return the one that has waited for longest, by its weight."""
        gained = self._gained
        best = -1
        total = 0.0
        for index, weight in enumerate(weights):
            if weight > 0:
                gained[index] += weight
                total += weight
                if best < 0 or gained[index] > gained[best]:
                    best = index
        gained[best] -= total
        return best


@final
class LeastConnections:
    """The one with the fewest requests under way for its weight; of several, each in turn."""

    __slots__ = ("_turn",)

    def __init__(self, count: int) -> None:
        self._turn = RoundRobin(count)

    def choose(self, weights: Sequence[float], load: Load, key: bytes) -> int:
        """Return the one that would be the least loaded with this request."""
        loads = [
            (load(index) + 1) / weight if weight > 0 else None
            for index, weight in enumerate(weights)
        ]
        least = min(value for value in loads if value is not None)
        tied = [
            weight if value == least else 0.0 for weight, value in zip(weights, loads, strict=True)
        ]
        return self._turn.choose(tied, load, key)


@final
class RandomTwo:
    """The less loaded of two that are drawn by weight: nearly as even as the least loaded of all.

    Unlike that one it does not let many workers, which know only their own requests, all run to the
    same server. M. Mitzenmacher, The Power of Two Choices (2001). `draw` returns from 0 to below 1.
    """

    __slots__ = ("_draw",)

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw

    def choose(self, weights: Sequence[float], load: Load, key: bytes) -> int:
        """Return the better of two."""
        one = drawn(weights, self._draw())
        others = [0.0 if index == one else weight for index, weight in enumerate(weights)]
        if not any(others):
            return one
        other = drawn(others, self._draw())
        first, second = (load(one) + 1) / weights[one], (load(other) + 1) / weights[other]
        return one if first <= second else other


def drawn(weights: Sequence[float], at: float) -> int:
    """Return the server at `at`, from 0 to below 1, of a line on which each has its weight."""
    left = at * sum(weights)
    last = 0
    for index, weight in enumerate(weights):
        if weight > 0:
            last = index
            left -= weight
            if left < 0:
                return index
    return last  # what rounding left over


@final
class ConsistentHash:
    """The same server for the same key, and for nearly all keys when another server leaves.

    ketama's ring: each server has many points on a circle, and a key belongs to the next point of a
    server that is there. So the keys of one that leaves are spread over all others, and no other
    key moves. `names` and `weights` are those of the configuration, whatever happens to them later.
    """

    __slots__ = ("_owners", "_points")

    def __init__(self, names: Sequence[str], weights: Sequence[int]) -> None:
        ring = sorted(
            (digest(f"{name}#{number}".encode()), index)
            for index, (name, weight) in enumerate(zip(names, weights, strict=True))
            for number in range(POINTS * weight)
        )
        self._points = [point for point, _ in ring]
        self._owners = [index for _, index in ring]

    def choose(self, weights: Sequence[float], load: Load, key: bytes) -> int:
        """Return the server of `key`, or the next one on the ring that has a weight now."""
        owners = self._owners
        at = bisect_left(self._points, digest(key))
        for step in range(len(owners)):
            index = owners[(at + step) % len(owners)]
            if weights[index] > 0:
                return index
        raise ValueError("no server has a weight")


def digest(data: bytes) -> int:
    """Return where `data` is on the ring, the same in every process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest())


def without_backups(weights: Sequence[float], backups: Sequence[bool]) -> list[float]:
    """Return `weights` with those of backup servers only when no other server has one."""
    main = [0.0 if backup else weight for weight, backup in zip(weights, backups, strict=True)]
    return main if any(main) else list(weights)


def slow_start_factor(up_s: float, slow_start_s: float) -> float:
    """Return what part of its weight a server has that came back `up_s` ago: 0.1 rising to 1."""
    if up_s >= slow_start_s:
        return 1.0
    return max(COLDEST, up_s / slow_start_s)


def sticky_values(group: str, names: Sequence[str]) -> list[bytes]:
    """Return a value for each server that a cookie can hold: hexadecimal, and not its address.

    The same in every worker and after every restart, whatever the order of the servers.
    """
    values: dict[bytes, str] = {}
    for name in sorted(names):
        number = 0
        while (value := sticky_value(group, name, number)) in values:
            number += 1
        values[value] = name
    found = {name: value for value, name in values.items()}
    return [found[name] for name in names]


def sticky_value(group: str, name: str, number: int) -> bytes:
    """Return the `number`th of the values that a server may have."""
    data = f"{group}\n{name}\n{number}".encode()
    return blake2b(data, digest_size=STICKY_BYTES).hexdigest().encode()
