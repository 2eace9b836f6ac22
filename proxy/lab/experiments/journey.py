"""Where the time of one request goes, while others ask as well."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import final

from proxy.lab.experiment import OVERHEAD_S, Due
from proxy.lab.journey import PATH, Trip, spans, travel
from proxy.lab.load_job import GOOD
from proxy.lab.model import Metric, Picture
from proxy.lab.services import HOST
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit, head, lies, listed

# So many at least, however short the load; so many at most, however fast the answers.
LEAST_TRIPS, MOST_TRIPS = 5, 2000


@final
class Journey:
    """A visitor with a connection of its own each time, among others who keep theirs."""

    key = "journey"
    number = 9
    title = "Where the time goes"
    question = "Of what a visitor waits for, how much is the application?"
    picture: Picture = "journey"
    headline = "total"
    metrics: list[Metric] = [  # noqa: RUF012
        Metric(key="total", title="From connecting to the last byte", unit="ms", better="less"),
        Metric(key="application", title="The application, by the clock", unit="ms", better=""),
        Metric(key="computing", title="The application, CPU time", unit="ms", better=""),
        Metric(key="outside", title="All the rest", unit="ms", better="less"),
    ]
    due: Due = "last round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        return (
            f"While {sizes.clients} connections ask for the page that no cache may keep, for "
            f"{sizes.closed_s:g} s, a visitor asks again and again for the one that may be kept "
            "for a minute, on a new connection each time. Drawn is the one in the middle, by how "
            "long they took. proxyd tells its part in Server-Timing, which is on for this address "
            "alone; the application is measured inside of it, with every stack."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return sizes.closed_s + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once; what a cache may keep, it has by then."""
        over = threading.Event()
        one_trip(visit)
        with ThreadPoolExecutor(1) as thread:
            going = thread.submit(trips, visit, over)
            try:
                told, _ = visit.closed(visit.page("/lab/dynamic"), visit.sizes.closed_s)
            finally:
                over.set()
            found = going.result()
        seen = Observation(generator_cpu=told.cpu_s / told.took_s)
        seen.answers.update(trip.outcome for trip in found)
        good = sorted((trip for trip in found if trip.outcome == GOOD), key=lambda one: one.total_s)
        if good:
            middle = good[(len(good) - 1) // 2]
            seen.figures = figures(middle)
            seen.journey = spans(middle, visit.stack.kind.layers)
        else:
            seen.silence = f"no right answer at all: {listed(seen.answers)}"
        lies(seen)
        return seen


def one_trip(visit: Visit) -> Trip:
    """Ask once."""
    request = head("GET", PATH).replace(b"Connection: keep-alive", b"Connection: close")
    return travel((HOST, visit.stack.port), request, visit.key, visit.sizes.timeout_s)


def trips(visit: Visit, over: threading.Event) -> list[Trip]:
    """Ask again and again until the others have had enough."""
    found: list[Trip] = []
    while len(found) < LEAST_TRIPS or (len(found) < MOST_TRIPS and not over.is_set()):
        found.append(one_trip(visit))
    return found


def figures(trip: Trip) -> dict[str, float]:
    """Return the figures of a trip, in milliseconds; none of an application that was not asked."""
    found = {"total": trip.total_s * 1000, "outside": (trip.total_s - trip.application_s) * 1000}
    if trip.application_s:
        found["application"] = trip.application_s * 1000
        found["computing"] = trip.computing_s * 1000
    return {name: round(value, 3) for name, value in found.items()}
