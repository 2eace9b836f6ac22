"""nginx: what all others are compared with.

It looks at a file at most once a second, and has no cache in memory beside that of the system.
"""

import grp
import os
import pwd

from bench.engines.engine import Engine, Site
from proxy.lab.services import Build, Service

# nginx's documentation: some 8000 keys in a megabyte.
KEYS_MIB, BYTES_OF_A_KEY = 64, 128
ENTRY_BYTES = 4096

CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections {connections}; }}
http {{
    types {{ image/png png; }}
    default_type application/octet-stream;
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
    uwsgi_temp_path temp; scgi_temp_path temp;
    log_format timed '$remote_addr - - [$time_local] "$request" $status $body_bytes_sent '
                     '"$http_referer" "$http_user_agent" $request_time '
                     '$upstream_response_time $request_id';
    access_log access.log timed buffer=64k flush=1s;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 100000000;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 1s;
    proxy_cache_path cache levels=1:2 keys_zone=answers:{keys_mib}m inactive=1d
                     max_size={disk_mib}m use_temp_path=off;
    upstream backend {{
        server 127.0.0.1:{upstream_port};
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Port $server_port;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Request-ID $request_id;
        location /static/ {{ alias {files}/; }}
        location /cached/ {{
            proxy_pass http://backend;
            proxy_cache answers;
            proxy_cache_key $scheme$http_host$request_uri;
            proxy_cache_lock on;
            proxy_cache_revalidate on;
            add_header X-Cache $upstream_cache_status;
        }}
        location / {{ proxy_pass http://backend; }}
    }}
}}
"""


def build(program: str, site: Site) -> Build:
    """Return its start."""
    text = CONFIGURATION.format(
        user=f"user {account()};" if os.geteuid() == 0 else "",
        connections=site.room.connections,
        keys_mib=max(KEYS_MIB, site.room.disk_mib * BYTES_OF_A_KEY // ENTRY_BYTES * 2),
        disk_mib=site.room.disk_mib,
        upstream_port=site.upstream_port,
        port=site.port,
        tls_port=site.tls_port,
        certificate=site.certificate,
        key=site.key,
        files=site.files,
    )
    command = [program, "-p", str(site.folder), "-e", "error.log", "-c", "nginx.conf"]
    return Build(services=[Service(name="nginx", command=command)], files={"nginx.conf": text})


def account() -> str:
    """Return the current user and group, as nginx wants them: started by root it changes both."""
    return f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"


NGINX = Engine(
    name="nginx",
    program="nginx",
    package="nginx-light",
    version_argument="-v",
    serves=frozenset({"files", "forward", "cache", "disk", "collapse", "tls"}),
    build=build,
)
