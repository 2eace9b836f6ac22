"""Browsers keep their connections open: what two thousand of them cost."""

from typing import final

from proxy.lab.application import HELLO
from proxy.lab.experiment import OVERHEAD_S, P50, P99, Due, memory_mib
from proxy.lab.load_job import Ask, Crowd
from proxy.lab.model import Metric, Picture
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit, head, lies, visitor

# Until one connection has had its few bytes.
CONNECTION_S = 0.0006


@final
class IdleConnections:
    """They ask once, then stay; the visitor comes after them."""

    key = "idle"
    number = 5
    title = "Idle connections"
    question = "Who can afford browsers that keep their connections?"
    picture: Picture = "bars"
    headline = "held"
    metrics: list[Metric] = [  # noqa: RUF012
        Metric(key="held", title="Connections that were held", unit="", better="more"),
        Metric(
            key="per_connection",
            title="Memory per idle connection",
            unit="KiB",
            better="less",
            explanation="what all processes grew by, divided by the connections that were held",
        ),
        P50,
        P99,
    ]
    due: Due = "last round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        return (
            f"{sizes.idle_clients:,} connections ask for a few bytes once and stay open; then a "
            f"visitor asks at a constant rate for {sizes.idle_s:g} s."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return sizes.idle_clients * CONNECTION_S + sizes.idle_s + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        hello = Ask(head=head("GET", "/lab/hello"), body=HELLO)
        page = visit.page("/lab/dynamic")
        before, settled = Observation(processes=visit.stack.processes()), Observation()

        def ready(_: int) -> None:
            settled.processes = visit.stack.processes()

        job = visit.job(
            visit.sizes.idle_s,
            Crowd(kind="idle", ask=hello, count=visit.sizes.idle_clients),
            Crowd(kind="open", ask=page, count=visit.sizes.clients, rate=visit.rates.steady),
        )
        told = visit.generator.run(job, ready)
        seen = Observation(processes=settled.processes)
        visitor(seen, told, 1)
        held = told.crowds[0].connected
        seen.figures["held"] = held
        # Of a few connections the growth is that of anything else.
        if held >= visit.sizes.idle_clients / 2:
            grown_mib = max(0.0, memory_mib(settled) - memory_mib(before))
            seen.figures["per_connection"] = grown_mib * 1024 / held
        if held < visit.sizes.idle_clients:
            missing = visit.sizes.idle_clients - held
            seen.notes.append(f"{missing:,} of the connections were not let in, or not kept.")
        lies(seen, any_status=True)
        return seen
