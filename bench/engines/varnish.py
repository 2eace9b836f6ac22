"""Varnish: the cache in memory, and requests that pass it; it serves no files and speaks no TLS.

Its log is in shared memory; `varnishncsa` beside it writes the access log that all others write
themselves, and its CPU counts. It caches what has a Cookie because it is told to, as the others do
by themselves, and it sends nothing stale.
"""

from bench.engines.engine import Engine, Site, require
from proxy.lab.services import Build, Service

PACKAGE = "varnish"
CONFIGURATION = """
vcl 4.1;

backend upstream {{
    .host = "127.0.0.1";
    .port = "{upstream_port}";
}}

sub vcl_recv {{
    set req.http.X-Forwarded-Proto = "http";
    set req.http.X-Request-ID = req.xid;
    if (req.url ~ "^/cached/") {{
        return (hash);
    }}
    return (pass);
}}

sub vcl_backend_response {{
    set beresp.grace = 0s;
}}

sub vcl_deliver {{
    if (obj.hits > 0) {{
        set resp.http.X-Cache = "HIT";
    }}
}}
"""


def build(program: str, site: Site) -> Build:
    """Return its start. Raises SkipError where its log writer is not installed."""
    command = [
        program, "-F", "-j", "none", "-n", str(site.folder / "instance"),
        "-a", f"127.0.0.1:{site.port}", "-f", str(site.folder / "default.vcl"),
        "-s", f"malloc,{site.room.disk_mib}m", "-p", "timeout_idle=75", "-p", "listen_depth=4096",
    ]  # fmt: skip
    log = [
        require("varnishncsa", PACKAGE), "-n", str(site.folder / "instance"), "-t", "off",
        "-w", str(site.folder / "access.log"),
        "-F", '%h - - %t "%r" %s %b "%{Referer}i" "%{User-agent}i" %D %{X-Request-ID}i',
    ]  # fmt: skip
    return Build(
        services=[
            Service(name="varnishd", command=command),
            Service(name="varnishncsa", command=log),
        ],
        files={"default.vcl": CONFIGURATION.format(upstream_port=site.upstream_port)},
    )


VARNISH = Engine(
    name="varnish",
    program="varnishd",
    package=PACKAGE,
    version_argument="-V",
    serves=frozenset({"forward", "cache", "collapse"}),
    build=build,
)
