"""A page that is made for each visitor: the cost of the layers themselves."""

from typing import final

from proxy.lab.experiment import (
    CPU,
    CPU_SYSTEM,
    CPU_USER,
    MEMORY,
    OVERHEAD_S,
    P50,
    P99,
    RATE,
    Due,
)
from proxy.lab.experiments.steady import steady
from proxy.lab.model import Metric, Picture
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit


@final
class DynamicPage:
    """Nobody can take this work off the application."""

    key = "dynamic"
    number = 1
    title = "A page made for each visitor"
    question = "What does a layer cost when it can only pass the request on?"
    picture: Picture = "bars"
    headline = "cpu"
    metrics: list[Metric] = [CPU, CPU_USER, CPU_SYSTEM, RATE, P50, P99, MEMORY]  # noqa: RUF012
    due: Due = "every round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        return (
            f"{sizes.clients} connections ask for a page that no cache may keep, each as soon as "
            f"it has its answer, for {sizes.closed_s:g} s; then visitors come at a constant rate "
            f"for {sizes.open_s:g} s, and their waiting counts from when they meant to ask."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return sizes.closed_s + sizes.open_s + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        return steady(visit, visit.page("/lab/dynamic"))
