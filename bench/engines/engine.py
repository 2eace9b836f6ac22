"""What a server is to the bench: what to install, what it can do, and how it starts.

All write an access log, keep connections to clients and upstream open as long as they are used, and
have one worker, or as many threads as the one CPU that they get.
"""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from bench.errors import SkipError
from bench.jobs import Part
from proxy.lab.services import Build, find_program

VERSION = re.compile(r"\d+\.\d+\.\d+[\w.+~-]*")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many connections a server must hold, and how much its cache.

    By default so little that the storing miss makes a cache remove what is old, as caches do most
    of their lives. `layers`: which it has, if it can have both.
    """

    connections: int = 1024
    disk_mib: int = 256
    memory_mib: int = 128
    layers: Literal["both", "memory", "disk"] = "both"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a server runs, and what it serves."""

    folder: Path
    port: int
    tls_port: int
    upstream_port: int
    files: Path
    certificate: Path
    key: Path
    room: Room


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A server that can be measured. `package` is Debian's; `version_argument` asks for it."""

    name: str
    program: str
    package: str
    version_argument: str
    serves: frozenset[Part]
    build: Callable[[str, Site], Build]

    def path(self) -> str:
        """Return where its program is. Raises SkipError."""
        return require(self.program, self.package)

    def version(self) -> str:
        """Return the version that it says. Raises SkipError."""
        told = subprocess.run(
            [self.path(), self.version_argument], capture_output=True, text=True, check=False
        )
        found = VERSION.search(told.stdout + told.stderr)
        return found[0] if found else "of some version"


def require(program: str, package: str) -> str:
    """Return the path of a program. Raises SkipError."""
    path = find_program(program)
    if path is None:
        raise SkipError(f"{program} is not installed; on Debian: apt-get install {package}")
    return path
