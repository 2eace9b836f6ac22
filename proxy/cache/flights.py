"""Which requests are under way to the upstream, so that nobody asks twice for the same thing.

And which keys had an answer that could not be kept: those who ask for one of them do not wait for
one another (what Varnish calls hit-for-miss), until the time of its mark is over or an answer comes
that can be kept. No I/O, no clock.
"""

from typing import Final, Generic, Protocol, TypeVar

# Varnish keeps its hit-for-miss objects for two minutes (builtin.vcl, vcl_backend_response).
MARK_S: Final = 120.0
# How often an answer for a marked key is looked at again, for one that could be kept, and the disk
# for one that another worker has kept.
LOOK_S: Final = 1.0
# Marks are for keys under load; 150 bytes each and the key.
MAX_MARKS: Final = 16 * 1024


class _Mark:
    """When a mark ends, and when an answer, and the disk, is worth a look."""

    __slots__ = ("disk_at", "look_at", "until")

    def __init__(self, now: float) -> None:
        self.until = now + MARK_S
        self.look_at = now + LOOK_S
        self.disk_at = now + LOOK_S


class Flight(Protocol):
    """One request to the upstream, and the answer while it comes."""

    key: bytes

    def vary(self) -> tuple[bytes, ...]:
        """Return the names in the Vary of its answer, once that is known."""


FlightT = TypeVar("FlightT", bound=Flight)


class Flights(Generic[FlightT]):
    """The flights of one worker by key, and the marks."""

    __slots__ = ("_flights", "_marks")

    def __init__(self) -> None:
        self._flights: dict[bytes, list[FlightT]] = {}
        self._marks: dict[bytes, _Mark] = {}

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

    def mark(self, key: bytes, now: float) -> None:
        """Remember that an answer for `key` could not be kept."""
        marks = self._marks
        if key not in marks and len(marks) >= MAX_MARKS:
            del marks[next(iter(marks))]
        marks[key] = _Mark(now)

    def unmark(self, key: bytes) -> None:
        """Forget the mark: an answer could have been kept."""
        self._marks.pop(key, None)

    def marked(self, key: bytes, now: float) -> bool:
        """Whether those who ask for `key` had better not wait for one another."""
        mark = self._marks.get(key)
        return mark is not None and now < mark.until

    def not_on_disk(self, key: bytes, now: float) -> bool:
        """Whether the disk had nothing for a marked key less than a second ago."""
        mark = self._marks.get(key)
        if mark is None:
            return False
        if now < mark.disk_at:
            return True
        mark.disk_at = now + LOOK_S
        return False

    def worth_a_look(self, key: bytes, now: float) -> bool:
        """Whether to see if an answer for a marked key could be kept: once a second."""
        mark = self._marks.get(key)
        if mark is None or now < mark.look_at:
            return False
        mark.look_at = now + LOOK_S
        return True
