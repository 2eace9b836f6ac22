"""Static files, small and large: what a web server takes off the application."""

from typing import final

from proxy.lab.experiment import OVERHEAD_S, P50, P99, Due
from proxy.lab.experiments.steady import flat_out
from proxy.lab.load_job import Crowd
from proxy.lab.model import Metric, Picture
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit, lies, visitor

SMALL, LARGE = "small.bin", "large.bin"
SMALL_BYTES, LARGE_BYTES = 6 * 1024, 1 << 20


@final
class StaticFiles:
    """The application sends them where nobody does it for it, as Flask does: by file_wrapper."""

    key = "files"
    number = 3
    title = "Static files"
    question = "What does it cost to let Python send style sheets and pictures?"
    picture: Picture = "bars"
    headline = "small_cpu"
    metrics: list[Metric] = [  # noqa: RUF012
        Metric(key="small_cpu", title="CPU time per small file (6 KB)", unit="µs", better="less"),
        Metric(key="large_cpu", title="CPU time per large file (1 MB)", unit="µs", better="less"),
        Metric(key="small_rate", title="Small files", unit="requests/s", better="more"),
        Metric(key="large_rate", title="Large files", unit="requests/s", better="more"),
        P50,
        P99,
    ]
    due: Due = "every round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        return (
            f"{sizes.clients} connections fetch a file of 6 KB as fast as it comes, for "
            f"{sizes.closed_s:g} s, then one of 1 MB for as long; latency is the small file's, at "
            "a constant rate. Every byte is compared."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return 2 * sizes.closed_s + sizes.open_s + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        seen = flat_out(visit, visit.file(SMALL), visit.sizes.closed_s)
        large = flat_out(visit, visit.file(LARGE), visit.sizes.closed_s)
        small_figures, seen.figures = seen.figures, {}
        for size, figures in (("small", small_figures), ("large", large.figures)):
            for name in figures.keys() & {"cpu", "rate"}:
                seen.figures[f"{size}_{name}"] = figures[name]
        seen.answers.update(large.answers)
        seen.lie = seen.lie or large.lie
        seen.silence = seen.silence or large.silence
        seen.generator_cpu = max(seen.generator_cpu, large.generator_cpu)
        seen.notes = list(dict.fromkeys([*seen.notes, *large.notes]))
        crowd = Crowd(
            kind="open",
            ask=visit.file(SMALL),
            count=visit.sizes.clients * 4,
            rate=visit.rates.steady,
        )
        visitor(seen, visit.generator.run(visit.job(visit.sizes.open_s, crowd)), 0)
        lies(seen)
        return seen
