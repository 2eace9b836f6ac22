"""The compiled configuration: what a request holds from its beginning to its end.

Built by `compose` and never changed; a reload builds another one and swaps the reference.
"""

from typing import TYPE_CHECKING, Final

from proxy.observe.figures import CacheFigures, RouteFigures
from proxy.pipeline.exchange import Step
from proxy.pipeline.receive import receive
from proxy.rules.target import as_applications_see

if TYPE_CHECKING:
    from proxy.cache.tiered import Tiered
    from proxy.files.catalog import Catalog
    from proxy.message import FieldLine
    from proxy.observe.access_log import AccessLog
    from proxy.pipeline.sendfile import FilesBelow
    from proxy.pipeline.sibling import Siblings
    from proxy.rules.cache_rule import CacheRule
    from proxy.rules.forwarding import TrustedNetworks
    from proxy.upstream.group import Group


_OF_ROUTE: Final[tuple[str, ...]] = (
    "_exact",
    "_prefix",
    "bare",
    "body_limit",
    "buffer_request",
    "buffer_response",
    "cache",
    "catalog",
    "exact",
    "figures",
    "group",
    "header_names",
    "headers",
    "host_suffixes",
    "hosts",
    "inside",
    "name",
    "prefix",
    "private_lines",
    "read_timeout_s",
    "receive",
    "sendfile",
    "step",
    "strip_prefix",
    "total_timeout_s",
)


class Route:
    """One [[route]], compiled.

    `exact` is a path without "*", else `prefix` is the part before it ("/static/"). `hosts` are
    lower-case names, `host_suffixes` begin with a dot; both empty means any host. `body_limit` and
    `buffer_response` are in bytes (0: not buffered). `headers` replace those of the answer
    with the same names (`header_names`, lower case); `read_timeout_s` and `total_timeout_s`
    override the upstream's.
    `receive` takes an upstream's answer; `private_lines` go to an application of ours alone.
    With a `cache`, `bare` is the same route for what is fetched into it: as the upstream says it.
    `sendfile` is where the upstream may name files. `inside` leads to another worker. `figures`
    counts what it answers, together with `bare`.
    """

    __slots__ = _OF_ROUTE

    def __init__(self, name: str, step: Step, path: bytes = b"/*") -> None:
        self.name = name
        self.step = step
        self.receive: Step = receive
        self.exact = b"" if path.endswith(b"*") else path
        self.prefix = path[:-1] if path.endswith(b"*") else b""
        self._exact = as_applications_see(self.exact)
        self._prefix = as_applications_see(self.prefix)
        self.hosts: frozenset[bytes] = frozenset()
        self.host_suffixes: tuple[bytes, ...] = ()
        self.headers: tuple[FieldLine, ...] = ()
        self.header_names: frozenset[bytes] = frozenset()
        self.body_limit = 1 << 30
        self.buffer_request = True
        self.buffer_response = 64 << 20
        self.strip_prefix = b""
        self.read_timeout_s: float | None = None
        self.total_timeout_s: float | None = None
        self.private_lines: tuple[FieldLine, ...] = ()
        self.catalog: Catalog | None = None
        self.group: Group | None = None
        self.sendfile: tuple[FilesBelow, ...] = ()
        self.cache: CacheRule | None = None
        self.bare: Route | None = None
        self.inside = False
        self.figures = RouteFigures()

    def copied(self) -> "Route":
        """Return another one that is the same; `copy.copy` knows no compiled classes."""
        made = Route(self.name, self.step)
        for name in _OF_ROUTE:
            setattr(made, name, getattr(self, name))
        return made

    def holds(self, path: bytes) -> bool:
        """Whether `path`, as it is spelled, has the prefix that is cut off before it is used."""
        cut = self.strip_prefix or (self.prefix[:-1] if self.catalog is not None else b"")
        return path.startswith(cut)

    def matches(self, host: bytes, path: bytes) -> bool:
        """Whether this route answers for a `route_path`; paths match whole segments."""
        if self._prefix:
            if not path.startswith(self._prefix) and path != self._prefix[:-1]:
                return False
        elif path != self._exact:
            return False
        if not self.hosts and not self.host_suffixes:
            return True
        return host in self.hosts or host.endswith(self.host_suffixes)


class Site:
    """Everything that the steps need besides the request.

    `server_line` is the encoded Server field, empty when it is turned off; `temp_folder` takes
    contents that are too large for memory; `memory_spool_bytes` of an answer wait in memory for a
    slow client before the file begins. `cache` is there when a route has one, `siblings` when there
    are several workers. `purge_from` names who may purge it; with None, PURGE is any method.
    `figures` counts the requests that no route is for, `cache_figures` what the cache does.
    """

    __slots__ = (
        "access_log",
        "cache",
        "cache_figures",
        "figures",
        "memory_spool_bytes",
        "pass_server",
        "purge_from",
        "routes",
        "server_line",
        "siblings",
        "temp_folder",
        "trusted",
        "tunnel_timeout_s",
    )

    def __init__(
        self,
        routes: tuple[Route, ...],
        trusted: "TrustedNetworks",
        access_log: "AccessLog",
        *,
        server_header: bool = True,
        temp_folder: str | None = None,
        tunnel_timeout_s: float = 3600.0,
    ) -> None:
        self.routes = routes
        self.trusted = trusted
        self.access_log = access_log
        self.cache: Tiered | None = None
        self.figures = RouteFigures()
        self.cache_figures = CacheFigures()
        self.siblings: Siblings | None = None
        self.purge_from: TrustedNetworks | None = None
        self.server_line = b"Server: proxyd\r\n" if server_header else b""
        self.pass_server = not server_header
        self.temp_folder = temp_folder
        self.tunnel_timeout_s = tunnel_timeout_s
        self.memory_spool_bytes = 64 * 1024  # nginx: eight buffers of one page
