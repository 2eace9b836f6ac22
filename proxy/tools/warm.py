"""`proxyd cache warm`: asks the running daemon for URLs, so that their answers are stored.

Requests go to the listeners of the daemon, whatever the names in the URLs resolve to; as a browser
would send them, so that it is a browser's variants that are stored.
"""

import http.client
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from proxy.errors import CommandError
from proxy.tools.asked import Asked, asked, url_of
from proxy.tools.sitemap import MOST_BYTES, MOST_URLS, Listed, read_list
from proxy.tools.workers import UnixConnection

# What all common browsers send of what answers vary by.
BROWSER = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate, br, zstd"}
# An application may take long for a page that nobody has asked for in a while.
_PATIENCE_S = 120.0
_CHUNK_BYTES = 1 << 16


class Listener(NamedTuple):
    """Where the daemon listens: a unix socket's `path`, or `host` and `port`."""

    tls: bool
    host: str = ""
    port: int = 0
    path: Path | None = None


class Warmed(NamedTuple):
    """What became of one URL.

    `outcome` is "stored", "hit", "not stored", "failed", or "left out" once it is to end.
    """

    url: str
    outcome: str
    detail: str


def listener_of(url: str) -> Listener:
    """Return a listener of which the daemon says the URL."""
    if url.startswith("unix:"):
        return Listener(False, path=Path(url.removeprefix("unix:")))
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Listener(tls, parts.hostname or "", parts.port or (443 if tls else 80))


class Daemon:
    """The listeners of a running daemon; every thread has a connection of its own to each."""

    def __init__(self, urls: Iterable[str], headers: dict[str, str]) -> None:
        self._listeners = [listener_of(url) for url in urls]
        self._headers = BROWSER | headers
        self._mine = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        # It is this machine's own daemon, and the name is of the site, not of the address.
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def get(self, wanted: Asked, most_bytes: int = 0) -> tuple[http.client.HTTPResponse, bytes]:
        """Ask for a URL; return the answer, and the first `most_bytes` of its content.

        All of it is read. Raises CommandError, OSError, HTTPException.
        """
        listener = self._listener(wanted)
        connection = self._connection(listener, wanted)
        request = wanted.request
        host = request.authority.decode()
        try:
            connection.putrequest(
                "GET", request.target.decode(), skip_host=True, skip_accept_encoding=True
            )
            for name, value in ({"Host": host} | self._headers).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            content = response.read(most_bytes) if most_bytes else b""
            while response.read(_CHUNK_BYTES):
                pass
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        return response, content

    def _listener(self, wanted: Asked) -> Listener:
        tls = wanted.scheme == b"https"
        for listener in self._listeners:
            if listener.tls == tls:
                return listener
        raise CommandError(f"no [[listen]] speaks {wanted.scheme.decode()}")

    def _connection(self, listener: Listener, wanted: Asked) -> http.client.HTTPConnection:
        """Return this thread's connection; one with TLS is for one name."""
        name = wanted.request.host.decode() if listener.tls else ""
        held = vars(self._mine)
        known = f"{listener} {name}"
        if known not in held:
            if listener.path is not None:
                held[known] = UnixConnection(listener.path, _PATIENCE_S)
            elif listener.tls:
                held[known] = NamedConnection(listener, name, self._context)
            else:
                held[known] = http.client.HTTPConnection(
                    listener.host, listener.port, timeout=_PATIENCE_S
                )
            self._open.append(held[known])
        found: http.client.HTTPConnection = held[known]
        return found

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open:
            connection.close()


class NamedConnection(http.client.HTTPSConnection):
    """A connection with TLS to one address, for the certificate of another name (SNI)."""

    def __init__(self, listener: Listener, name: str, context: ssl.SSLContext) -> None:
        super().__init__(listener.host, listener.port, timeout=_PATIENCE_S, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        """Connect, and ask for the name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def urls_of(daemon: Daemon, name: str, read: Callable[[str], bytes]) -> list[Asked]:
    """Return the requests that a list, a sitemap, or an index of sitemaps names.

    `read` returns the content of a file. Raises CommandError.
    """
    listed = read_list(fetched(daemon, name) if "://" in name else read(name), name)
    urls = list(listed.urls)
    for sitemap in listed.sitemaps:
        more: Listed = read_list(fetched(daemon, sitemap), sitemap)
        urls += more.urls  # what an index names is no index
        if len(urls) > MOST_URLS:
            raise CommandError(f"{name} has more than {MOST_URLS} URLs; warm its parts")
    return [asked(url) for url in dict.fromkeys(urls)]


def fetched(daemon: Daemon, url: str) -> bytes:
    """Return the content of a sitemap that the daemon serves."""
    try:
        response, content = daemon.get(asked(url), MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"{url} cannot be had from proxyd: {error}") from None
    if response.status != 200:
        raise CommandError(f"{url}: proxyd answers {response.status}; is this the sitemap's URL?")
    return content


def warm(
    daemon: Daemon,
    wanted: Sequence[Asked],
    parallel: int,
    done: Callable[[Warmed], None],
    ending: Callable[[], bool] = lambda: False,
) -> Counter[str]:
    """Ask for each URL, `parallel` at a time; `done` learns of each. Returns the outcomes.

    None is asked for any more when it is `ending`.
    """
    counts: Counter[str] = Counter()

    def one(each: Asked) -> Warmed:
        return Warmed(url_of(each), "left out", "") if ending() else warm_one(daemon, each)

    with ThreadPoolExecutor(parallel, "warm") as pool:
        for warmed in pool.map(one, wanted):
            counts[warmed.outcome] += 1
            done(warmed)
    return counts


def warm_one(daemon: Daemon, wanted: Asked) -> Warmed:
    """Ask for one URL; what goes wrong is an outcome."""
    url = url_of(wanted)
    try:
        response, _content = daemon.get(wanted)
    except (CommandError, OSError, http.client.HTTPException) as error:
        return Warmed(url, "failed", str(error) or type(error).__name__)
    said = response.headers.get("Cache-Status", "").rpartition("proxyd;")[2].strip()
    words = {word.strip() for word in said.split(";")}
    if response.status >= 500:
        return Warmed(url, "failed", f"{response.status} {response.reason}")
    if "hit" in words:
        return Warmed(url, "hit", said)
    if "stored" in words:
        return Warmed(url, "stored", said)
    return Warmed(url, "not stored", f"{response.status} {said or 'its route has no cache'}")
