"""proxyd, as its users run it: what is kept in memory and what on disk are both switched on."""

import sys
from pathlib import Path

from bench.engines.engine import Engine, Site
from proxy.lab.services import Build, Service

# What `worker_connections` is without a word.
CONNECTIONS = 8192

CONFIGURATION = """
[server]
workers = 1
worker_connections = {connections}
state_dir = "var"

[[listen]]
address = "127.0.0.1:{port}"
backlog = 4096

[[listen]]
address = "127.0.0.1:{tls_port}"
tls = {{ certificate = "{certificate}", key = "{key}" }}

[log]
access = "access.log"
error = "error.log"

[cache]
memory = "{memory_mib}MiB"
memory_object = "32KiB"
disk = "{disk_mib}MiB"

[upstream.backend]
servers = ["127.0.0.1:{upstream_port}"]
idle_connections = 128

[[route]]
path = "/static/*"
files = "{files}"

[[route]]
path = "/*"
to = "backend"
"""


def build(program: str, site: Site) -> Build:
    """Return its start."""
    room = site.room
    text = CONFIGURATION.format(
        connections=max(room.connections, CONNECTIONS),
        port=site.port,
        tls_port=site.tls_port,
        certificate=site.certificate,
        key=site.key,
        memory_mib=0 if room.layers == "disk" else room.memory_mib,
        disk_mib=0 if room.layers == "memory" else room.disk_mib,
        upstream_port=site.upstream_port,
        files=site.files,
    )
    command = [program, "run", "--allow-root", "-c", "proxy.toml"]
    return Build(services=[Service(name="proxyd", command=command)], files={"proxy.toml": text})


PROXYD = Engine(
    name="proxyd",
    program=str(Path(sys.executable).with_name("proxyd")),
    package="proxyd",
    version_argument="version",
    serves=frozenset({"files", "forward", "cache", "disk", "collapse", "tls"}),
    build=build,
)
