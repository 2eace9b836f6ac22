"""The applications that proxyd runs and the upstreams that others run, as proxy.toml has them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from proxy.config.applications import (
    Command,
    CommandSetting,
    LivenessSetting,
    Mount,
    ReadinessSetting,
    check_places,
)
from proxy.config.kinds import (
    Count,
    Duration,
    Environment,
    FilePath,
    PositiveSize,
    Table,
    WsgiObject,
    default,
    distinct,
    some,
)
from proxy.config.sendfile import SendfileSetting
from proxy.config.upstreams import (
    BalanceSetting,
    NotOnlyBackups,
    Percent,
    ProbeSetting,
    Retries,
    ServerSetting,
    StickyCookie,
    UpstreamTlsSetting,
)
from proxy.upstream.address import UnixAddress
from proxy.upstream.server import Server, UpstreamTls


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

    total_timeout: Duration | None = None
    """From the end of a request to the end of its answer, however the server sends it; 504 past it,
    or an answer that breaks off. For what dribbles: `read_timeout` begins anew with each byte. Not
    for tunnels and event streams (`text/event-stream`) once they have begun, and not while a slow
    client holds the answer back. Without it, none. Precedent: Envoy's `timeout` of a route 15s,
    uWSGI `harakiri`; nginx and HAProxy have none."""

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

    sticky_cookie: StickyCookie | None = None
    """The name of a cookie that leads a client to the same server or process again, for as long as
    that is up; its value does not tell the address. For applications that keep something in memory.
    Precedent: HAProxy `cookie NAME insert`, Traefik `sticky.cookie`."""

    retries: Retries = 1
    """How often one request goes to another server (or to the same app, started again) when a
    server broke off before a byte of its answer's content was here. Only what may be repeated: GET,
    HEAD, PUT, DELETE, OPTIONS, with content that was buffered; a POST never is, and is told so
    (502). Precedent: nginx `proxy_next_upstream`, Envoy `num_retries` 1."""

    retry_budget: Percent = 20
    """How many percent of the requests of the last 10s may be retries; 100 are allowed in any
    case, and 0 turns them off, those on idle connections that turn out to be closed as well. Keeps
    retries from multiplying the load of a server that fails because of it. Precedent: Finagle and
    Linkerd 20%."""

    sendfile: SendfileSetting = default({})
    """Folders whose files it may have proxyd send: it answers with `X-Sendfile`, a file name, or
    with `X-Accel-Redirect`, a path, and no content; status, Content-Type and most fields stay its
    own. `"private"` allows one folder, in which "/a.pdf" is private/a.pdf; `{ "/protected/" =
    "private" }` gives it a path. Nothing outside is sent, and clients see neither field. Flask's
    `USE_X_SENDFILE` is turned on for an app, which sends what lies elsewhere itself. Precedent:
    nginx `internal`, Apache `XSendFilePath`."""


def half_of_threads(app: dict[str, Any]) -> int:
    """Return the default of `stuck_threads`, from the fields before it."""
    return max(1, int(app["threads"]) // 2)


def connections_for_threads(app: dict[str, Any]) -> int:
    """Return the default of `max_connections`, from the fields before it."""
    return int(app["threads"]) + 2


class App(ConnectionOptions):
    """An application that proxyd runs and watches: `wsgi`, or any other server by `command`.

    The folder of proxy.toml is its working directory and on its import path, unless `directory`
    says otherwise.
    """

    env: Environment = default({})
    """Environment variables in addition to those that proxyd has. With `command`, {socket} and
    {port} in them are replaced."""

    command: CommandSetting | None = None
    """Another server to run in place of `wsgi`, such as `["uvicorn", "--uds", "{socket}",
    "shop:app"]`, which gets {socket}, the path of a unix socket that only proxyd can reach, or
    {port}, a free port of 127.0.0.1, also by `env`: `{ PORT = "{port}" }`. It must stay in the
    foreground. Danger: every user of this machine can connect to a port, and the server believes
    what they say of themselves; take {socket} where the server knows it."""

    wsgi: WsgiObject | None = default(None)
    """The application as "module:object", such as "backend.wsgi:app"; or `command`."""

    directory: FilePath | None = None
    """Its working directory, which is on its import path. Without it the folder of proxy.toml.
    Precedent: gunicorn `chdir`."""

    venv: FilePath | None = None
    """The folder of its own virtual environment, such as ".venv", with Waitress (or what `server`
    says) in it. `command` is looked for there first. Without it, the Python of proxyd."""

    server: Literal["waitress", "gevent", "werkzeug"] = "waitress"
    """What runs it: "waitress" has a thread for each request, "gevent" a greenlet; "werkzeug" is
    Flask's server for development, slow and not safe to expose."""

    mount: Mount | None = None
    """The path below which it lives, such as "/shop": taken off the path, and in SCRIPT_NAME, so
    that `url_for` is right. Its routes must lie below it. Precedent: uWSGI `mount`."""

    processes: Count = 1
    """Processes of the application. More than one needs an application that keeps no state in
    memory. Precedent: gunicorn `workers` 1."""

    threads: Count = 8
    """Threads of each process: the requests that it works on at once. An event stream holds one as
    long as it lasts. With `command`, what that server can do at once. Precedent: Waitress `threads`
    4, gunicorn 1."""

    stuck_threads: Count = Field(default_factory=half_of_threads)
    """How many requests of one process may hang before it is replaced: those that have produced
    nothing for `read_timeout`, or are not done after `total_timeout`, for which their clients have
    had a 504. The stack of every thread is
    in the log then. A new process is ready first; the old one finishes what else it has, within
    `shutdown` of [timeouts]. By default half of `threads`. Without effect with `command`: nobody
    can look into it. Precedent: gunicorn `timeout`, which replaces at the first."""

    start_timeout: Duration = default("30s")
    """How long it may take from its start until it is ready; then the start failed. Precedent:
    systemd `TimeoutStartSec` 90s."""

    user: str | None = None
    """Whom the application runs as when proxyd is started as root, in place of `user` of [server]:
    then it can read nothing that is only for the workers, and the workers nothing that is only for
    it. The workers' group may connect to its sockets, nobody else. Precedent: php-fpm `user` with
    `listen.group`."""

    group: str | None = None
    """The group that goes with `user`, which it needs; without it, the user's own group."""

    readiness: ReadinessSetting | None = None
    """A GET that a process must answer before it gets requests: `{ path = "/ready", interval =
    "5s", timeout = "2s", rise = 2, fall = 3, statuses = ["2xx", "3xx"], host = "localhost" }`;
    those are the defaults. Afterwards, `fall` failures in a row keep requests away from it until
    `rise` successes; when no process is ready, all are used. Without it, any answer to GET / at
    the start will do. Precedent: Kubernetes `readinessProbe`."""

    liveness: LivenessSetting | None = None
    """A GET, as in `readiness`, whose failure `fall` times in a row replaces the process by a new
    one. Danger: it waits for a free thread as every request does, so a busy application may seem
    dead: be generous with `timeout` and `fall`, and ask for nothing but the process itself.
    Precedent: Kubernetes `livenessProbe`."""

    max_requests: Count | None = None
    """Then a process is replaced by a new one, which is ready first, while the old one finishes
    what it has (for up to `[timeouts] shutdown`); for applications that leak. Each process draws
    up to a tenth less, so that not all are replaced at once. Precedent: gunicorn `max_requests`
    and `max_requests_jitter`."""

    max_age: Duration | None = None
    """The same after this time, less up to a tenth. Precedent: uWSGI `max-worker-lifetime`."""

    max_memory: PositiveSize | None = None
    """The same when the process and those that it has started use so much memory (RSS), which is
    looked at every 5s. Precedent: uWSGI `reload-on-rss`."""

    max_connections: Count = Field(default_factory=connections_for_threads)
    """Connections to each process, shared out evenly (rounded up) among the workers; further
    requests wait in `queue`. By default `threads` + 2: a thread that becomes free finds its next
    request waiting, and the others wait where there is a limit, a timeout, and an eye on clients
    that leave; Waitress has none of these. With more workers than that, each has one. Precedent:
    HAProxy `maxconn` of a server."""

    balance: BalanceSetting = default("least_conn")
    """Which process gets a request, as in [upstream.NAME]. While none accepts connections, because
    it restarts or has crashed, requests wait in `queue` for up to `queue_timeout`."""

    @field_validator("command")
    @classmethod
    def is_told_where(cls, command: Command | None, info: ValidationInfo) -> Command | None:
        """Check that a server is told where to listen."""
        if command is not None:
            check_places(command, info.data.get("env", {}))
        return command

    @field_validator("wsgi")
    @classmethod
    def is_one_of_two(cls, wsgi: str | None, info: ValidationInfo) -> str | None:
        """Check that there is something to run, and one thing only."""
        if "command" in info.data and (wsgi is None) is (info.data["command"] is None):
            raise ValueError(
                'is missing; write wsgi = "module:object", or `command` for another server'
                if wsgi is None
                else "cannot be there beside `command`; leave one of them out"
            )
        return wsgi

    @field_validator("server", "mount")
    @classmethod
    def is_for_wsgi(cls, value: str, info: ValidationInfo) -> str:
        """Check that the servers of others are not told what they do not hear."""
        if info.data.get("command") is None:
            return value
        if info.field_name == "server":
            raise ValueError("is for `wsgi`; `command` names its server itself")
        raise ValueError(
            "is for `wsgi`; the server of `command` has its own way: gunicorn"
            f' env = {{ SCRIPT_NAME = "{value}" }}, uvicorn "--root-path", "{value}"'
        )

    @property
    def runs(self) -> str:
        """What it runs, in a few words."""
        if self.command is not None:
            return self.command.arguments[0]
        return f"{self.wsgi} under {self.server}"


class Upstream(ConnectionOptions):
    """A server that somebody else runs."""

    servers: Annotated[
        tuple[ServerSetting, ...],
        AfterValidator(some('one "host:port" or "unix:path"')),
        AfterValidator(distinct),
        NotOnlyBackups,
        Field(json_schema_extra={"minItems": 1}),
    ]
    """"host:port" or "unix:path" of each server, or `{ address = "host:port", weight = 2, backup =
    true, max_connections = 64 }`: a share (1 to 100), whether it gets requests only while all
    others are down, and a limit of its own. Names are resolved again at least every 30 s.
    Precedent: nginx `upstream`."""

    max_connections: Count = 256
    """Connections of one worker to each server; further requests wait in `queue`. Precedent:
    HAProxy `maxconn` of a server, nginx `max_conns`, both without a limit by default."""

    balance: BalanceSetting = default("round_robin")
    """Which server gets a request: "round_robin" in turn, "least_conn" the one with the fewest
    under way, "random_two" the better of two by chance (for many workers), "hash path", "hash
    address", "hash header NAME" or "hash cookie NAME" always the same for the same value, and when
    a server leaves only its own move. By `weight`. Precedent: nginx `least_conn`, `hash …
    consistent`."""

    slow_start: Duration | None = None
    """How long a server that comes back takes to get its full share again; not for hashes.
    Precedent: nginx Plus and HAProxy `slowstart`, both off by default."""

    eject_failures: Count = 5
    """So many requests in a row without an answer, and the server is passed over where there is
    another one; one that refuses connections is at once. An error status is an answer: see `probe`.
    After its time one request tries it. Precedent: Envoy `consecutive_5xx` 5, nginx `max_fails`
    1."""

    eject_rate: Percent = 50
    """The same at this percentage of failures in 10s, of ten requests at least. 0 is for
    never. Precedent: Envoy `failure_percentage_threshold` 85."""

    eject_time: Duration = default("1s")
    """How long it is passed over the first time, then for twice as long each time. Precedent: nginx
    `fail_timeout` 10s, Envoy `base_ejection_time` 30s."""

    eject_time_max: Duration = default("30s")
    """The longest. With a single server that refuses connections it is 1s, for which requests fail
    at once. Precedent: Envoy `max_ejection_time` 300s."""

    probe: ProbeSetting | None = None
    """A GET that each worker sends to each server: `{ path = "/healthz", interval = "5s", timeout =
    "2s", rise = 2, fall = 3, statuses = ["2xx", "3xx"], host = "app.internal" }`; those are the
    defaults, but for `host`, which is the server's address. After `fall` failures in a row the
    server gets no requests, until `rise` successes; the first probe decides alone. Danger: what all
    servers need (a database) does not belong into it: when all are down, all are used. Precedent:
    HAProxy `option httpchk`, with 2s, `rise` 2 and `fall` 3."""

    tls: UpstreamTlsSetting = default(False)
    """Whether to speak TLS (1.2 or 1.3) to the servers: `true`, or `{ ca = "ca.pem", server_name =
    "app.internal", certificate = "client.pem", key = "client.key", verify = true }`. Certificates
    must be valid for `server_name`, by default the host of each address, and signed by `ca`, by
    default the system's authorities. Danger: verify = false protects from nobody who is on the
    way. Precedent: nginx `proxy_ssl_verify` (off), HAProxy `ssl verify required`."""

    @field_validator("tls")
    @classmethod
    def has_names(cls, tls: UpstreamTls | None, info: ValidationInfo) -> UpstreamTls | None:
        """Check that there is a name to verify."""
        servers: tuple[Server, ...] = info.data.get("servers", ())
        unix = any(isinstance(server.address, UnixAddress) for server in servers)
        if tls is not None and tls.verify and tls.server_name is None and unix:
            raise ValueError(
                'needs a `server_name` with a "unix:" server, whose certificate has some name'
            )
        if tls is not None and unix and info.data.get("probe") is not None:
            raise ValueError('cannot be probed on a "unix:" server; leave out one of the three')
        return tls
