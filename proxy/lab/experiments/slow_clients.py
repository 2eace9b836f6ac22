"""Two hundred telephones on trains: why something must stand between them and the threads."""

from typing import final

from proxy.lab.application import DOWNLOAD_BYTES
from proxy.lab.experiment import MEMORY, OVERHEAD_S, P50, P99, Due, memory_mib
from proxy.lab.load_job import Ask, Crowd
from proxy.lab.load_staying import SETTLE_S
from proxy.lab.model import Metric, Picture
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit, head, lies, visitor

BYTES_PER_S = 10 * 1024
UPLOAD_BYTES = 1 << 20


@final
class SlowClients:
    """Half of them upload, half download; the one who matters is the visitor between them."""

    key = "slow"
    number = 4
    title = "Slow clients"
    question = "What does a normal visitor feel while others crawl?"
    picture: Picture = "distribution"
    headline = "p99"
    metrics: list[Metric] = [  # noqa: RUF012
        P99,
        P50,
        Metric(key="lost", title="The visitor's requests that failed", unit="%", better="less"),
        MEMORY,
    ]
    due: Due = "first round"

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        half = sizes.slow_clients // 2
        return (
            f"{half} clients upload and {half} download 1 MB, at 10 KB/s each, while one visitor "
            f"asks for the page at a constant rate for {sizes.slow_s:g} s; what is not answered "
            f"after {sizes.timeout_s:g} s is given up."
        )

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long it takes."""
        return SETTLE_S + sizes.slow_s + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        half = visit.sizes.slow_clients // 2
        fields = ("Content-Type: application/octet-stream", f"Content-Length: {UPLOAD_BYTES}")
        upload = Ask(head=head("POST", "/lab/upload", *fields))
        download = Ask(head=head("GET", "/lab/download"))
        crowds = [
            Crowd(kind="upload", ask=upload, count=half, rate=BYTES_PER_S, content=UPLOAD_BYTES),
            Crowd(
                kind="download", ask=download, count=half, rate=BYTES_PER_S, content=DOWNLOAD_BYTES
            ),
            Crowd(
                kind="open",
                ask=visit.page("/lab/dynamic"),
                count=visit.sizes.clients,
                rate=visit.rates.steady,
            ),
        ]
        told = visit.generator.run(visit.job(visit.sizes.slow_s, *crowds))
        seen = Observation(processes=visit.stack.processes())
        visitor(seen, told, 2)
        seen.figures["memory"] = memory_mib(seen)
        seen.figures["lost"] = 100 * seen.errors / max(1, sum(seen.answers.values()))
        lies(seen, any_status=True)
        return seen
