"""Process 1's duty, tried by a process to which the system gives orphans as well."""

import subprocess
import sys

import pytest

# PR_SET_CHILD_SUBREAPER is 36. The shell's children outlive it; one of them leads a session.
SCRIPT = """
import ctypes, os, subprocess, time
from proxy.process.orphans import Orphans

assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
ours = subprocess.Popen(["true"], start_new_session=True)
leader = "import os; os.setsid()"
subprocess.run(["sh", "-c", f"true & python3 -c '{leader}' & exit 0"], check=True)
while os.waitid(os.P_PID, ours.pid, os.WEXITED | os.WNOWAIT) is None:
    pass

def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}

orphans = Orphans()
until = time.monotonic() + 20
while ours.poll() is None and time.monotonic() < until:
    orphans.reap({ours.pid})
assert ours.returncode == 0, ours.returncode
while children() and time.monotonic() < until:
    orphans.reap({ours.pid})
assert not children()
orphans.reap(set())
print("clean")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="process 1 of a container is Linux's")
def test_orphans_are_released_and_our_own_are_left_to_asyncio() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=40, check=False
    )
    assert (done.stdout, done.stderr) == ("clean\n", "")
