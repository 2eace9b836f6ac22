"""What children inherit, seen by a child of a process that holds a capability."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import subprocess, sys
from proxy.process.capabilities import capabilities_handed_on, withhold_capabilities

def of_a_child():
    lines = subprocess.check_output(["cat", "/proc/self/status"], text=True).splitlines()
    return [line.split()[1].lstrip("0") for line in lines if line[:6] in ("CapPrm", "CapAmb")]

print(of_a_child(), withhold_capabilities(), of_a_child())
with capabilities_handed_on():
    print(of_a_child())
print(of_a_child())
"""
BIND = f"{1 << 10:x}"  # CAP_NET_BIND_SERVICE


SYSTEM_PYTHON = Path("/usr/bin/python3")


def output(*before: str) -> list[str]:
    shown = subprocess.run(
        [*before, SYSTEM_PYTHON, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return shown.stdout.splitlines()


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not SYSTEM_PYTHON.exists(),
    reason="needs root, Linux's capabilities, and a Python that every user may run",
)
def test_children_of_a_master_with_a_capability_have_none_and_its_successor_has_it() -> None:
    own = ["--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"]
    shown = output("setpriv", *own, "--reuid=4242", "--clear-groups")
    assert shown == [f"['{BIND}', '{BIND}'] True ['', '']", f"['{BIND}', '{BIND}']", "['', '']"]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root, and Linux")
def test_who_has_nothing_has_nothing_to_withhold() -> None:
    assert output("setpriv", "--reuid=4242", "--clear-groups")[0] == "['', ''] False ['', '']"
