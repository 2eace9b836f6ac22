"""HAProxy: forwarding, TLS, and its small cache in memory; it serves no files.

Its log goes to standard output, and so to a file. Its cache has no lock for those who ask at once.
"""

from bench.engines.engine import Engine, Site
from proxy.lab.services import Build, Service

# Nothing that it is measured with is larger; HAProxy's manual: a cache has up to 4095 MB.
OBJECT_BYTES, LIMIT_MIB = 32 * 1024, 4095

CONFIGURATION = """
global
    nbthread 1
    maxconn {connections}
    log stdout format raw local0

defaults
    mode http
    log global
    option httplog
    option forwardfor
    option http-keep-alive
    http-reuse always
    timeout connect 10s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s

cache answers
    total-max-size {cache_mib}
    max-object-size {object_bytes}
    max-age 86400

frontend clients
    bind 127.0.0.1:{port} backlog 4096
    bind 127.0.0.1:{tls_port} ssl crt {both} ssl-min-ver TLSv1.2 alpn http/1.1
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Request-ID %[uuid()]
    use_backend cached if {{ path_beg /cached/ }}
    default_backend passed

backend cached
    http-request cache-use answers
    http-response cache-store answers
    http-after-response set-header X-Cache HIT if {{ res.cache_hit }}
    # wrk waits for content of the length that a 304 tells.
    http-after-response del-header Content-Length if {{ status 304 }}
    server upstream 127.0.0.1:{upstream_port} pool-max-conn 128

backend passed
    server upstream 127.0.0.1:{upstream_port} pool-max-conn 128
"""


def build(program: str, site: Site) -> Build:
    """Return its start; it wants the certificate and its key in one file."""
    both = site.certificate.read_text() + site.key.read_text()
    text = CONFIGURATION.format(
        connections=site.room.connections,
        cache_mib=min(site.room.disk_mib, LIMIT_MIB),
        object_bytes=OBJECT_BYTES,
        port=site.port,
        tls_port=site.tls_port,
        both=site.folder / "both.pem",
        upstream_port=site.upstream_port,
    )
    command = [program, "-db", "-f", "haproxy.cfg"]
    return Build(
        services=[Service(name="haproxy", command=command)],
        files={"haproxy.cfg": text, "both.pem": both},
    )


HAPROXY = Engine(
    name="haproxy",
    program="haproxy",
    package="haproxy",
    version_argument="-v",
    serves=frozenset({"forward", "cache", "tls"}),
    build=build,
)
