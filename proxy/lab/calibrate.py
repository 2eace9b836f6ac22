"""What the load generator can do on this machine, against a server that does nothing."""

import subprocess
import sys

from proxy.errors import LabError
from proxy.lab.experiments.steady import TRUSTED_CPU
from proxy.lab.generator import Generator
from proxy.lab.load_job import GOOD, Ask, Crowd, LoadJob
from proxy.lab.model import Calibration, Experiment
from proxy.lab.sizes import Sizes
from proxy.lab.trivial import BODY
from proxy.lab.visit import head


def calibrate(generator: Generator, sizes: Sizes, environment: dict[str, str]) -> Calibration:
    """Load the server that does nothing. Raises LabError when even that fails."""
    ask = Ask(head=head("GET", "/"), body=BODY)
    with subprocess.Popen(
        [sys.executable, "-m", "proxy.lab.trivial"],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as trivial:
        try:
            if trivial.stdout is None:
                raise LabError("the server for the calibration has no standard output")
            port = int(trivial.stdout.readline())
            crowd = Crowd(kind="closed", ask=ask, count=sizes.clients)
            job = LoadJob(
                host="127.0.0.1",
                port=port,
                duration_s=sizes.closed_s,
                timeout_s=sizes.timeout_s,
                crowds=[crowd],
            )
            told = generator.run(job)
        finally:
            trivial.kill()
    good = told.crowds[0].answers.get(GOOD, 0)
    if not good:
        raise LabError("the load generator got no answer from a server that does nothing")
    return Calibration(
        rate=good / told.took_s,
        generator_us=told.cpu_s / good * 1e6,
        trusted_cpu=TRUSTED_CPU,
        conclusion="",
    )


def conclusion(calibration: Calibration, experiments: list[Experiment]) -> str:
    """Say in a sentence or two whether the generator was the bottleneck anywhere."""
    busy = [
        f"{result.stack} in “{experiment.title}”"
        for experiment in experiments
        for result in experiment.results
        if result.generator_cpu > calibration.trusted_cpu
    ]
    start = (
        f"Against a server that does nothing the load generator made {calibration.rate:,.0f} "
        f"requests per second, with {calibration.generator_us:.0f} µs of CPU time for each."
    )
    if not busy:
        share = max(
            (result.generator_cpu for one in experiments for result in one.results), default=0.0
        )
        return (
            f"{start} In no experiment did it need more than {share:.0%} of a CPU: "
            "it was never the bottleneck."
        )
    return (
        f"{start} It was at its own limit with {', '.join(busy)}: there the throughput is at "
        "least what is shown, and only CPU time per request compares."
    )
