"""The configuration files that the lab writes, so that nginx and proxyd do the same work.

One worker, static files from the same folder, an access log, kept connections to the application,
its address and scheme told. All else is as each comes.
"""

NGINX = """\
daemon off;
{user}worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 8192; }}
http {{
    default_type application/octet-stream;
    client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
    uwsgi_temp_path temp; scgi_temp_path temp;
    access_log access.log combined buffer=64k flush=1s;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 1g;
    upstream application {{
        server 127.0.0.1:{inner_port};
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        location /static/ {{ alias {files}/; }}
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""

PROXYD = """\
[server]
workers = 1

[[listen]]
address = "127.0.0.1:{port}"

[log]
access = "access.log"

{target}
[[route]]
path = "/static/*"
files = "{files}"

[[route]]
path = "/lab/journey"
to = "application"
server_timing = true
{cache}
[[route]]
path = "/*"
to = "application"
{cache}"""

PROXYD_APP = """\
[app.application]
wsgi = "proxy.lab.application:app"
threads = {threads}
"""

# gunicorn closes idle connections after 2 s; see `idle_timeout` in the reference.
PROXYD_UPSTREAM = """\
[upstream.application]
servers = ["127.0.0.1:{inner_port}"]
idle_timeout = "1s"
"""

PROXYD_NO_CACHE = """\
[route.cache]
enabled = false
"""
