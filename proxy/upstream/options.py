"""The limits and timeouts of one upstream group."""

from dataclasses import dataclass
from typing import final

from proxy.rules.health import EjectionRules
from proxy.upstream.server import Balance, UpstreamTls

IN_TURN = Balance()
EJECTION = EjectionRules()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """What a group of servers allows itself and them; each worker has its own groups.

    `connect_timeout_s` covers name resolution, and all addresses of one server. `send_timeout_s`
    and `read_timeout_s` count from the last progress, as nginx's proxy_send_timeout and
    proxy_read_timeout (60 s) do; `total_timeout_s` counts from the end of the request to that of
    its answer, 0 is for ever. `max_connections` of each server counts busy and idle ones
    together; `queue` requests may wait for one of them, each for `queue_timeout_s`. Each server
    keeps up to `idle_connections` for `idle_timeout_s`, which should be shorter than the server's
    own patience (Waitress 120 s, node 5 s; gunicorn has 2 s, and wants less here).
    `response_header_bytes` bounds one response head with its status line (node 16 KiB, nginx one
    page, curl 300 KiB).

    `managed` says that proxyd starts the servers, so that requests wait while nothing listens.
    `retries` is how often one request goes to another server, `retry_budget_percent` how often all
    of them may. A server that comes back gets its full share after `slow_start_s`.
    """

    connect_timeout_s: float = 5
    send_timeout_s: float = 60
    read_timeout_s: float = 60
    total_timeout_s: float = 0
    max_connections: int = 256
    queue: int = 512
    queue_timeout_s: float = 30
    idle_connections: int = 32
    idle_timeout_s: float = 4
    response_header_bytes: int = 65536
    max_chunk_line_bytes: int = 4096
    max_trailer_bytes: int = 8192
    managed: bool = False
    balance: Balance = IN_TURN
    sticky_cookie: str = ""
    retries: int = 1
    retry_budget_percent: int = 20
    slow_start_s: float = 0
    ejection: EjectionRules = EJECTION
    tls: UpstreamTls | None = None
