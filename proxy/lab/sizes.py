"""How much is done: the sizes of the experiments for each pace."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of one run. Times in seconds, rates per second, clients at the same time."""

    rounds: int
    warm_up_s: float
    closed_s: float
    open_s: float
    clients: int
    slow_clients: int
    slow_s: float
    idle_clients: int
    idle_s: float
    burst_clients: int
    burst_s: float
    burst_timeout_s: float
    restart_s: float
    timeout_s: float


PACES = {
    # For tests: whether it works, not how fast.
    "tiny": Sizes(
        rounds=2, warm_up_s=0.05, closed_s=0.1, open_s=0.1, clients=2, slow_clients=4, slow_s=0.2,
        idle_clients=10, idle_s=0.1, burst_clients=20, burst_s=0.1, burst_timeout_s=5.0,
        restart_s=1.0, timeout_s=5.0,
    ),
    "quick": Sizes(
        rounds=2, warm_up_s=0.15, closed_s=0.2, open_s=0.2, clients=16, slow_clients=200,
        slow_s=0.6, idle_clients=2000, idle_s=0.3, burst_clients=1000, burst_s=0.2,
        burst_timeout_s=1.0, restart_s=2.0, timeout_s=1.5,
    ),
    "full": Sizes(
        rounds=5, warm_up_s=1.0, closed_s=3.0, open_s=5.0, clients=16, slow_clients=200,
        slow_s=10.0, idle_clients=2000, idle_s=5.0, burst_clients=1000, burst_s=5.0,
        burst_timeout_s=5.0, restart_s=10.0, timeout_s=5.0,
    ),
}  # fmt: skip
