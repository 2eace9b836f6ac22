"""Everything that can happen to a proxyd in a year, in minutes, under load: nobody notices.

The short form runs with all tests; `make stress` runs the long one.
"""

import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.server.daemon import Daemon
from tests.server.stress import MARK, SITE, Plan, marked, stressed

log = logging.getLogger(__name__)

Start = Callable[..., Daemon]

# These bounds are for a machine that has much else to do; half a minute is what it takes alone.
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is left is read from /proc")

SHORT = Plan(
    reloads=2,
    killed_workers=2,
    killed_applications=2,
    upgrades=1,
    broken_configurations=1,
    broken_applications=2,
)
LONG = Plan(
    reloads=50,
    killed_workers=20,
    killed_applications=20,
    upgrades=3,
    broken_configurations=10,
    broken_applications=10,
)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Mark all processes of this test, and end those that a failure leaves behind."""
    name = f"{os.getpid()}-{random.randrange(1 << 32)}"
    monkeypatch.setenv(MARK, name)
    yield name
    for pid in marked(name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run(start: Start, mark: str, plan: Plan, *, workers: int, processes: int, seed: int) -> None:
    running = start(SITE.replace("{processes}", str(processes)), workers=workers, control=True)
    with stressed(running, mark, seed) as stress:
        for what in plan.shuffled(random.Random(seed)):
            stress.do(what)


@pytest.mark.timeout(600)
def test_deaths_reloads_upgrades_and_mistakes_are_nothing_to_clients(
    start: Start, mark: str
) -> None:
    run(start, mark, SHORT, workers=2, processes=1, seed=1)


@pytest.mark.stress
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize(("workers", "processes"), [(1, 1), (4, 2)])
def test_a_year_of_them(start: Start, mark: str, workers: int, processes: int) -> None:
    seed = int(os.environ.get("PROXYD_STRESS_SEED", "0")) or random.randrange(1, 1 << 32)
    log.info("PROXYD_STRESS_SEED=%d", seed)
    run(start, mark, LONG, workers=workers, processes=processes, seed=seed)
