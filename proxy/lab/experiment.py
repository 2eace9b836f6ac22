"""What an experiment is to the lab, and the figures that several of them have."""

from typing import Literal, Protocol

from proxy.lab.model import Metric, Picture
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit

# The first and the last round each have a stack that was started for them.
Due = Literal["every round", "first round", "last round"]

# What an observation takes beside its own time: the last answers, the look at its processes.
OVERHEAD_S = 0.15

RATE = Metric(key="rate", title="Throughput", unit="requests/s", better="more")
CPU = Metric(
    key="cpu",
    title="CPU time per request",
    unit="µs",
    better="less",
    explanation="user and system, of all processes of the stack",
)
CPU_USER = Metric(key="cpu_user", title="of it in user mode", unit="µs", better="less")
CPU_SYSTEM = Metric(key="cpu_system", title="of it in the kernel", unit="µs", better="less")
P50 = Metric(key="p50", title="Latency, median", unit="ms", better="less")
P99 = Metric(key="p99", title="Latency, 99th percentile", unit="ms", better="less")
MEMORY = Metric(
    key="memory",
    title="Memory",
    unit="MiB",
    better="less",
    explanation="of all processes, what they share counted once where the system tells",
)


class Experiment(Protocol):
    """One question, and how to put it to a stack that runs; `due` says in which rounds."""

    key: str
    number: int
    title: str
    question: str
    picture: Picture
    headline: str
    metrics: list[Metric]
    due: Due

    def method(self, sizes: Sizes) -> str:
        """Say what is done, with its sizes."""
        ...

    def takes_s(self, sizes: Sizes) -> float:
        """Return about how long one observation of a stack takes that can do it."""
        ...

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        ...


def memory_mib(seen: Observation) -> float:
    """Return the memory of all processes of an observation."""
    return sum(one.pss_bytes or one.rss_bytes for one in seen.processes) / 2**20
