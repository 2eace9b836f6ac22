"""A page that is the same for everybody and says so: what a shared cache is for."""

from typing import final

from proxy.lab.experiment import CPU, CPU_SYSTEM, CPU_USER, OVERHEAD_S, P50, P99, RATE, Due
from proxy.lab.experiments.steady import steady
from proxy.lab.model import Metric, Picture
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit


@final
class PublicPage:
    """The same page as before; the only difference is its Cache-Control."""

    key = "public"
    number = 2
    title = "A page that anybody may keep for a minute"
    question = "What does a cache in front of the application change?"
    picture: Picture = "bars"
    headline = "cpu"
    metrics: list[Metric] = [CPU, CPU_USER, CPU_SYSTEM, RATE, P50, P99]  # noqa: RUF012
    due: Due = "every round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        return (
            "The same page and the same load as in the experiment before, but the answer says "
            "“Cache-Control: public, max-age=60”. "
            f"{sizes.clients} connections for {sizes.closed_s:g} s, then a constant rate for "
            f"{sizes.open_s:g} s."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return sizes.closed_s + sizes.open_s + 2 * OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once; a cache has kept the answer by then."""
        visit.stack.ask("/lab/public")
        return steady(visit, visit.page("/lab/public"))
