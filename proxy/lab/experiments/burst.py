"""A link on a popular page: many times more visitors than the application can serve."""

from typing import final

from proxy.lab.experiment import OVERHEAD_S, P50, P99, Due
from proxy.lab.load_job import GOOD, REFUSED, TIMED_OUT, Crowd
from proxy.lab.model import Metric, Picture
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit, lies, visitor

RECOVERY_POLLS = 20


@final
class Burst:
    """Who refuses, who queues, who falls over; and whether it is there again afterwards."""

    key = "burst"
    number = 6
    title = "A burst far over capacity"
    question = "Who refuses, who queues, who falls over?"
    picture: Picture = "outcomes"
    headline = "good"
    metrics: list[Metric] = [  # noqa: RUF012
        Metric(key="good", title="Answered in time", unit="%", better="more"),
        Metric(key="refused", title="Told at once to come back (503)", unit="%", better=""),
        Metric(key="lost", title="Left without an answer", unit="%", better="less"),
        P50,
        P99,
    ]
    due: Due = "first round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        return (
            "Visitors come at eight times the rate that one core could serve for "
            f"{sizes.burst_s:g} s, on up to {sizes.burst_clients:,} connections; who is not "
            f"answered after {sizes.burst_timeout_s:g} s leaves."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return sizes.burst_s + sizes.burst_timeout_s + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        crowd = Crowd(
            kind="open",
            ask=visit.page("/lab/dynamic"),
            count=visit.sizes.burst_clients,
            rate=visit.rates.burst,
        )
        job = visit.job(visit.sizes.burst_s, crowd, timeout_s=visit.sizes.burst_timeout_s)
        told = visit.generator.run(job)
        seen = Observation(processes=visit.stack.processes())
        visitor(seen, told, 0)
        total = max(1, sum(seen.answers.values()))
        said = sum(count for name, count in seen.answers.items() if name.isdecimal())
        seen.figures["good"] = 100 * seen.answers[GOOD] / total
        seen.figures["refused"] = 100 * said / total
        seen.figures["lost"] = 100 * (total - said - seen.answers[GOOD]) / total
        if seen.answers[TIMED_OUT] + seen.answers[REFUSED] == total:
            seen.notes.append("Nobody was served.")
        if not any(visit.stack.answers() for _ in range(RECOVERY_POLLS)):
            seen.notes.append("It did not answer after the burst, either.")
        lies(seen, any_status=True)
        return seen
