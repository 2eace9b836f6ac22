"""The applications that proxyd runs and the upstreams that others run, as proxy.toml has them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from proxy.config.kinds import (
    Count,
    Duration,
    Environment,
    PositiveSize,
    ServerAddress,
    Table,
    WsgiObject,
    default,
    distinct,
    some,
)


class ConnectionOptions(Table):
    """What apps and upstreams have in common: how proxyd talks to the server behind it."""

    connect_timeout: Duration = default("5s")
    """To get a connection; then the next server is tried, and 504. Precedent: HAProxy
    `timeout connect` 5s, nginx `proxy_connect_timeout` 60s."""

    send_timeout: Duration = default("60s")
    """Between two writes of a request; 504 past it. Precedent: nginx `proxy_send_timeout` 60s."""

    read_timeout: Duration = default("60s")
    """Between two reads of an answer, the first one included; 504 past it. Long polling and quiet
    event streams need more. Precedent: nginx `proxy_read_timeout` 60s."""

    queue: Count = 512
    """Requests of one worker that wait for a connection; 503 with Retry-After past it. Precedent:
    HAProxy `maxqueue`, which has no limit by default; nginx Plus `queue`."""

    queue_timeout: Duration = default("30s")
    """How long a request waits for a connection; then 503. Precedent: HAProxy `timeout queue`,
    nginx Plus 60s."""

    idle_connections: Count = 32
    """Unused connections that one worker keeps to each server. Precedent: nginx upstream
    `keepalive` 32."""

    idle_timeout: Duration = default("4s")
    """Then an unused connection is closed. It must be shorter than the server's own keep-alive, or
    requests run into connections that it is just closing: node has 5s, Waitress 120s; in front of
    gunicorn (2s) write "1s". Precedent: nginx 60s."""

    response_header: PositiveSize = default("64KiB")
    """The head of an answer; 502 past it. Precedent: HAProxy `tune.bufsize` 16k, nginx
    `proxy_buffer_size` 8k."""


def connections_for_threads(app: dict[str, Any]) -> int:
    """Return the default of `max_connections`, from the fields before it."""
    return int(app["threads"]) + 2


class App(ConnectionOptions):
    """A WSGI application that proxyd runs and watches.

    The folder of proxy.toml is its working directory and on its import path.
    """

    wsgi: WsgiObject
    """The application as "module:object", such as "backend.wsgi:app"."""

    server: Literal["waitress", "gevent", "werkzeug"] = "waitress"
    """What runs it: "waitress" has a thread for each request, "gevent" a greenlet; "werkzeug" is
    Flask's server for development, slow and not safe to expose."""

    processes: Count = 1
    """Processes of the application. More than one needs an application that keeps no state in
    memory. Precedent: gunicorn `workers` 1."""

    threads: Count = 8
    """Threads of each process: the requests that it works on at once. An event stream holds one as
    long as it lasts. Precedent: Waitress `threads` 4, gunicorn 1."""

    start_timeout: Duration = default("30s")
    """How long it may take from its start to its first accepted connection; then the start failed.
    Precedent: systemd `TimeoutStartSec` 90s."""

    env: Environment = default({})
    """Environment variables in addition to those that proxyd has."""

    max_connections: Count = Field(default_factory=connections_for_threads)
    """Connections of one worker to each process; further requests wait in `queue`. By default
    `threads` + 2: a thread that becomes free finds its next request waiting, and the others wait
    where there is a limit, a timeout, and an eye on clients that leave; Waitress has none of these.
    Precedent: HAProxy `maxconn` of a server."""


class Upstream(ConnectionOptions):
    """A server that somebody else runs."""

    servers: Annotated[
        tuple[ServerAddress, ...],
        AfterValidator(some('one "host:port" or "unix:path"')),
        AfterValidator(distinct),
        Field(json_schema_extra={"minItems": 1}),
    ]
    """"host:port" or "unix:path" of each server; they share the requests. Names are resolved again
    at least every 30 s. Precedent: nginx `upstream`."""

    max_connections: Count = 256
    """Connections of one worker to each server; further requests wait in `queue`. Precedent:
    HAProxy `maxconn` of a server, nginx `max_conns`, both without a limit by default."""
