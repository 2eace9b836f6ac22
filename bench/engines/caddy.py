"""Caddy: files, forwarding and TLS; it has no cache of its own."""

from bench.engines.engine import Engine, Site
from proxy.lab.services import Build, Service

CONFIGURATION = """
{{
    admin off
    auto_https off
    servers {{
        protocols h1
    }}
}}

(answers) {{
    log {{
        output file {folder}/access.log {{
            roll_disabled
        }}
        format json
    }}
    handle_path /static/* {{
        root * {files}
        file_server
    }}
    handle {{
        reverse_proxy 127.0.0.1:{upstream_port} {{
            header_up X-Request-ID {{http.request.uuid}}
            transport http {{
                keepalive_idle_conns_per_host 128
                compression off
            }}
        }}
    }}
}}

http://127.0.0.1:{port} {{
    bind 127.0.0.1
    import answers
}}

https://127.0.0.1:{tls_port} {{
    bind 127.0.0.1
    tls {certificate} {key}
    import answers
}}
"""


def build(program: str, site: Site) -> Build:
    """Return its start."""
    text = CONFIGURATION.format(
        folder=site.folder,
        files=site.files,
        upstream_port=site.upstream_port,
        port=site.port,
        tls_port=site.tls_port,
        certificate=site.certificate,
        key=site.key,
    )
    command = [program, "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    return Build(services=[Service(name="caddy", command=command)], files={"Caddyfile": text})


CADDY = Engine(
    name="caddy",
    program="caddy",
    package="caddy",
    version_argument="version",
    serves=frozenset({"files", "forward", "tls"}),
    build=build,
)
