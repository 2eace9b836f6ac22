"""What several experiments do: ask for one address, as fast as it goes and at a steady rate."""

from proxy.lab.experiment import memory_mib
from proxy.lab.load_job import GOOD, Ask, Crowd
from proxy.lab.visit import Observation, Visit, lies, visitor

# Above this share of a CPU the generator may be what held a closed loop back.
TRUSTED_CPU = 0.85


def flat_out(visit: Visit, ask: Ask, duration_s: float) -> Observation:
    """Ask as fast as it answers: throughput, and the CPU time of a request."""
    told, cpu = visit.closed(ask, duration_s)
    seen = Observation()
    seen.answers.update(told.crowds[0].answers)
    seen.generator_cpu = told.cpu_s / told.took_s
    seen.processes = visit.stack.processes()
    good = seen.answers[GOOD]
    if good:
        seen.figures = {
            "rate": good / told.took_s,
            "cpu": cpu.total_s / good * 1e6,
            "cpu_user": cpu.user_s / good * 1e6,
            "cpu_system": cpu.system_s / good * 1e6,
            "memory": memory_mib(seen),
        }
    else:
        seen.silence = "no right answer at all"
    if seen.generator_cpu > TRUSTED_CPU:
        seen.notes.append(
            "The load generator was at its own limit: the throughput is at least this. "
            "CPU time per request is not touched by that."
        )
    lies(seen)
    return seen


def steady(visit: Visit, ask: Ask) -> Observation:
    """Ask flat out, then at the rate that is the same for all stacks."""
    seen = flat_out(visit, ask, visit.sizes.closed_s)
    crowd = Crowd(kind="open", ask=ask, count=visit.sizes.clients * 4, rate=visit.rates.steady)
    visitor(seen, visit.generator.run(visit.job(visit.sizes.open_s, crowd)), 0)
    lies(seen)
    return seen
