"""What a report says of the machine and of the versions that it was measured with."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import psutil

from proxy.lab.model import Machine

PACKAGES = ("proxyd", "uvloop", "httptools", "waitress", "werkzeug", "gevent", "gunicorn", "flask")


def cpus() -> int:
    """Return how many CPUs this process may use."""
    if sys.platform == "linux":
        return len(psutil.Process().cpu_affinity() or ())
    return psutil.cpu_count() or 1


def machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cpu=cpu_name(),
        cpus=cpus(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def foreign_s() -> float:
    """Return the CPU time of all that is neither this process nor ended below it, since the boot.

    Also what a hypervisor gave to others meanwhile, where the system tells.
    """
    all_times, mine = psutil.cpu_times(), os.times()
    kinds = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(all_times, kind, 0.0) for kind in kinds) - sum(mine[:4])


def cpu_name() -> str:
    """Return the name that the maker gave the CPU, or its architecture where that is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of what is installed of the packages that matter here."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
