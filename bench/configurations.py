"""The configurations of the two servers for the same work, each as its own documentation has it.

Both write an access log through a buffer of 64 KB, look at a file at most once a second, keep
connections open to clients and upstream as long as they are used, have one worker, and keep
`CACHE_DISK_MIB` of answers on disk by the same key. nginx has no cache in memory beside that of the
system; proxyd keeps what is smaller than `memory_object` there as well.
"""

# So little that the storing miss makes both remove what is old, as caches do most of their lives.
CACHE_DISK_MIB = 256

NGINX_CONF = """
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 1024; }}
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
    proxy_cache_path cache levels=1:2 keys_zone=answers:64m inactive=1d max_size={disk_mib}m
                     use_temp_path=off;
    upstream backend {{
        server 127.0.0.1:{upstream_port};
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
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

PROXYD_TOML = """
[server]
workers = 1
state_dir = "var"

[[listen]]
address = "127.0.0.1:{port}"

[[listen]]
address = "127.0.0.1:{tls_port}"
tls = {{ certificate = "{certificate}", key = "{key}" }}

[log]
access = "access.log"
error = "error.log"

[cache]
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
