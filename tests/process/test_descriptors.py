"""How many files a worker may open, in a process of its own: a hard limit never goes up again."""

import subprocess
import sys

import pytest

SCRIPT = """
import logging, resource, sys
from proxy.process.worker import allow_descriptors
soft, hard, connections = map(int, sys.argv[1:])
logging.basicConfig(format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
allow_descriptors(connections)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits(soft: int, hard: int, connections: int) -> list[str]:
    """Return what a worker of so many connections logs, and then its limits."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(connections)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised"),
    [(64, 1024, 100, 556), (600, 1024, 100, 600), (556, 556, 100, 556)],
)
def test_a_worker_raises_its_limit_to_what_its_connections_may_need(
    soft: int, hard: int, connections: int, raised: int
) -> None:
    assert limits(soft, hard, connections) == [f"{raised} {hard}"]


def test_a_limit_that_is_too_low_is_told_with_the_ways_out() -> None:
    warning, now = limits(64, 400, 100)
    assert now == "400 400"
    assert warning == (
        "only 400 files may be open at once; 100 worker_connections may need 556: raise the limit"
        " (ulimit -n, LimitNOFILE=) or lower worker_connections"
    )
