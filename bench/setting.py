"""What every measurement needs, running: files, upstream, servers, load generator."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from bench.certificate import write_certificate
from bench.cpu import share_out
from bench.engines.all import chosen
from bench.engines.engine import Room, Site, require
from bench.errors import SkipError
from bench.jobs import write_files
from bench.load import Wrk
from bench.report import machine
from bench.servers import Server, started, upstream
from proxy.lab.interrupts import ends_orderly
from proxy.lab.services import free_ports

ROOM = Room()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """All that runs. `skipped`: which engines do not, and why; `cpus`: of the load."""

    servers: Sequence[Server]
    skipped: Mapping[str, str]
    wrk: Wrk
    cpus: set[int]
    about: str


@contextmanager
def prepared(names: Sequence[str], room: Room = ROOM) -> Iterator[Setting]:
    """Run engines, by name, and all else.

    Raises SkipError where something is not installed that every run needs, and BenchError.
    """
    if sys.platform != "linux":
        raise SkipError("the CPU time of other processes is read as Linux gives it")
    engines, skipped = chosen(names)
    require("wrk", "wrk")
    server_cpus, other_cpus = share_out()
    with ExitStack() as stack:
        stack.enter_context(ends_orderly())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        write_files(folder / "files")
        write_certificate(folder / "bench.pem", folder / "bench.key")
        upstream_port = stack.enter_context(upstream(other_cpus))
        servers = []
        for engine in engines:
            port, tls_port = free_ports(2)
            site = Site(
                folder=folder / engine.name,
                port=port,
                tls_port=tls_port,
                upstream_port=upstream_port,
                files=folder / "files",
                certificate=folder / "bench.pem",
                key=folder / "bench.key",
                room=room,
            )
            servers.append(stack.enter_context(started(engine, site, server_cpus)))
        wrk = Wrk(folder, upstream_port, other_cpus)
        yield Setting(
            servers=servers,
            skipped=skipped,
            wrk=wrk,
            cpus=other_cpus,
            about=machine(servers, wrk.version, (server_cpus, other_cpus)),
        )
