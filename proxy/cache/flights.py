"""Which requests are under way to the upstream, so that nobody asks twice for the same thing.

And which keys had an answer that could not be kept: those who ask for one of them do not wait for
one another (what Varnish calls hit-for-miss), until the time of its mark is over or an answer comes
that can be kept. A mark is for one variant, as in Varnish: that the page of somebody who has signed
in is their own does not keep those who have not from sharing theirs. No I/O, no clock.
"""

from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

# Varnish keeps its hit-for-miss objects for two minutes (builtin.vcl, vcl_backend_response).
MARK_S: Final = 120.0
# How often an answer for a marked key is looked at again, for one that could be kept, and the disk
# for one that another worker has kept.
LOOK_S: Final = 1.0
# Marks are for keys under load; 200 bytes each, the key and the variant.
MAX_MARKS: Final = 16 * 1024


class _Mark:
    """When a mark ends, and when an answer, and the disk, is worth a look."""

    __slots__ = ("disk_at", "look_at", "until")

    def __init__(self, now: float) -> None:
        self.until = now + MARK_S
        self.look_at = now + LOOK_S
        self.disk_at = now + LOOK_S


class Selector(Protocol):
    """A request, as far as it selects among the variants of an answer."""

    def variant(self, names: tuple[bytes, ...]) -> bytes:
        """Return what its fields come to in `names`; see `cache_key.variant_key`."""


class Flight(Protocol):
    """One request to the upstream, and the answer while it comes."""

    key: bytes

    def vary(self) -> tuple[bytes, ...]:
        """Return the names in the Vary of its answer, once that is known."""


FlightT = TypeVar("FlightT", bound=Flight)
K = TypeVar("K")
V = TypeVar("V")


class Flights(Generic[FlightT]):
    """The flights of one worker by key, and the marks."""

    __slots__ = ("_flights", "_marks", "_names")

    def __init__(self) -> None:
        self._flights: dict[bytes, list[FlightT]] = {}
        # Of each key, the names by which its marks are told apart; then, by key and variant, these.
        self._names: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()
        self._marks: OrderedDict[tuple[bytes, bytes], _Mark] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._flights.values()))

    def of(self, key: bytes) -> list[FlightT]:
        """Return the flights for `key`, the newest last."""
        return self._flights.get(key, [])

    def add(self, flight: FlightT) -> None:
        """Let others find it."""
        self._flights.setdefault(flight.key, []).append(flight)

    def remove(self, flight: FlightT) -> None:
        """Let nobody find it any more."""
        held = self._flights.get(flight.key)
        if held is not None and flight in held:
            held.remove(flight)
            if not held:
                del self._flights[flight.key]

    def names(self, key: bytes) -> tuple[bytes, ...]:
        """Return the names of the fields by which the marks of `key` are told apart."""
        return self._names.get(key, ())

    def mark(self, key: bytes, names: tuple[bytes, ...], selector: Selector, now: float) -> None:
        """Remember that an answer could not be kept, which told requests apart by `names`."""
        _put(self._names, key, names)
        _put(self._marks, (key, selector.variant(names)), _Mark(now))

    def unmark(self, key: bytes, selector: Selector) -> None:
        """Forget the mark: an answer could have been kept."""
        if key in self._names:
            self._marks.pop((key, selector.variant(self._names[key])), None)

    def _mark_of(self, key: bytes, selector: Selector) -> _Mark | None:
        names = self._names.get(key)
        return None if names is None else self._marks.get((key, selector.variant(names)))

    def marked(self, key: bytes, selector: Selector, now: float) -> bool:
        """Whether those who ask for the same had better not wait for one another."""
        mark = self._mark_of(key, selector)
        return mark is not None and now < mark.until

    def passes_until(self, key: bytes, selector: Selector) -> float:
        """Return until when there is nothing to do for what is marked but to pass it on.

        0 when it is not marked. That long a request may remember it; a mark that goes before is
        missed for no more than LOOK_S.
        """
        mark = self._mark_of(key, selector)
        return 0.0 if mark is None else min(mark.until, mark.look_at, mark.disk_at)

    def not_on_disk(self, key: bytes, selector: Selector, now: float) -> bool:
        """Whether the disk had nothing for what is marked less than a second ago."""
        mark = self._mark_of(key, selector)
        if mark is None:
            return False
        if now < mark.disk_at:
            return True
        mark.disk_at = now + LOOK_S
        return False

    def worth_a_look(self, key: bytes, selector: Selector, now: float) -> bool:
        """Whether to see if an answer for what is marked could be kept: once a second."""
        mark = self._mark_of(key, selector)
        if mark is None or now < mark.look_at:
            return False
        mark.look_at = now + LOOK_S
        return True


def _put(table: OrderedDict[K, V], key: K, value: V) -> None:
    """Put it into a table of MAX_MARKS, in place of what was put there first.

    A dict would look for that past all that was taken out before.
    """
    if key not in table and len(table) >= MAX_MARKS:
        table.popitem(last=False)
    table[key] = value
