"""A round of nothing but TLS handshakes: `openssl s_time` makes them in full, one after another."""

import re
import subprocess

from bench.cpu import on_cpus
from bench.engines.engine import require
from bench.errors import BenchError
from bench.servers import Server

# s_time counts its own CPU seconds, and then says how many real ones went by, whole ones.
RESULT = re.compile(r"^(\d+) connections in (\d+) real seconds", re.MULTILINE)
GRACE_S = 30


def shake_hands(server: Server, seconds: int, cpus: set[int]) -> tuple[int, int]:
    """Return how many handshakes were completed, and in how many seconds; raises BenchError.

    Raises SkipError when openssl is not there.
    """
    openssl = require("openssl", "openssl")
    where = f"127.0.0.1:{server.tls_port}"
    with on_cpus(cpus):
        told = subprocess.run(
            [openssl, "s_time", "-new", "-connect", where, "-time", str(seconds)],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + GRACE_S,
        )
    match = RESULT.search(told.stdout)
    if told.returncode != 0 or match is None or match[1] == "0":
        raise BenchError(f"openssl shook no hands with {server.name}:\n{told.stdout}{told.stderr}")
    return int(match[1]), int(match[2])
