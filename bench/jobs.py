"""What is measured: requests, each with the answer that it must get and where it must come from."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

KB = 1024
# What Firefox sends for a picture of a page; wrk and http.client add Host. 12 fields, 600 bytes.
BROWSER_FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
    "Accept-Language": "en-GB,en;q=0.8,de-DE;q=0.5,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Connection": "keep-alive",
    "Referer": "http://127.0.0.1:8080/profile/ada?page=2",
    "Cookie": "session=eyJ1c2VyIjo3LCJjc3JmIjoiNGYxZTZhIn0.aSFq0w.Zk3v5nqkRTVJ0v2m6aX3xw",
    "Sec-Fetch-Dest": "image",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Site": "same-origin",
    "Priority": "u=5, i",
}
# Random bytes under a name that no server compresses; the same on every machine.
_random = random.Random(7)  # noqa: S311 - nothing to keep secret
SMALL = _random.randbytes(KB)
MEDIUM = _random.randbytes(64 * KB)
LARGE = _random.randbytes(KB * KB)
HUGE = _random.randbytes(10 * KB * KB)
ETAG = '"5f3e-1234567890"'
USUAL_CLIENTS = 16
CROWD = 64

# What a server must be able to do.
Part = Literal["files", "forward", "cache", "disk", "collapse", "tls"]
FILES: frozenset[Part] = frozenset({"files"})
FORWARD: frozenset[Part] = frozenset({"forward"})
CACHE: frozenset[Part] = frozenset({"cache"})
DISK: frozenset[Part] = frozenset({"cache", "disk"})
COLLAPSE: frozenset[Part] = frozenset({"cache", "collapse"})
TLS: frozenset[Part] = frozenset({"tls"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request. `aim` is how much CPU proxyd may use of what nginx uses.

    `needs` is what a server must be made for, else it is not measured.
    `answer` is the content, `status` and `fields` (added to a browser's) are those of the request
    that is measured. `source` says what a cache does about it: nothing, answer it (for which it is
    asked before), or fetch and store it. With `group`, so many requests in a row ask for one URL,
    and then for a new one below `path`; with `among`, each for one of so many that are stored, by
    chance. `fetches` is how many requests the upstream must get for each of the clients'; None:
    they are counted only. The `client` "openssl" shakes hands in full and goes, without a request.
    """

    name: str
    title: str
    path: str
    answer: bytes
    needs: frozenset[Part]
    aim: float | None = None
    status: int = 200
    fields: Mapping[str, str] = field(default_factory=dict)
    source: Literal["server", "cache", "upstream"] = "server"
    group: int = 0
    among: int = 0
    fetches: float | None = 0
    clients: int = USUAL_CLIENTS
    tls: bool = False
    client: Literal["wrk", "openssl"] = "wrk"


JOBS = (
    Job(
        name="small",
        title="1 KB file",
        path="/static/small.png",
        answer=SMALL,
        needs=FILES,
        aim=1.0,
    ),
    Job(
        name="large",
        title="1 MB file",
        path="/static/large.png",
        answer=LARGE,
        needs=FILES,
        aim=0.7,
    ),
    Job(
        name="forward",
        title="forwarded, 1 KB",
        path="/feed?page=2",
        answer=SMALL,
        needs=FORWARD,
        fetches=1,
        aim=1.25,
    ),
    Job(
        name="hit",
        title="memory hit, 1 KB",
        path="/cached/small.png",
        answer=SMALL,
        needs=CACHE,
        source="cache",
        aim=0.8,
    ),
    Job(
        name="hit-tls",
        title="memory hit, TLS",
        path="/cached/small.png",
        answer=SMALL,
        needs=CACHE | TLS,
        source="cache",
        tls=True,
        aim=1.0,
    ),
    Job(
        name="handshake",
        title="TLS handshake",
        path="/feed?page=2",
        answer=SMALL,
        needs=FORWARD | TLS,
        tls=True,
        client="openssl",
        clients=1,
    ),
    # A connection for each request. wrk offers the session that it has; all servers take it.
    Job(
        name="resumption",
        title="TLS resumption, 1 KB",
        path="/cached/small.png",
        answer=SMALL,
        needs=CACHE | TLS,
        fields={"Connection": "close"},
        source="cache",
        tls=True,
    ),
    Job(
        name="conditional",
        title="conditional hit, 304",
        path="/cached/small.png",
        answer=b"",
        needs=CACHE,
        status=304,
        fields={"If-None-Match": ETAG},
        source="cache",
    ),
    Job(
        name="hit-64k",
        title="disk hit, 64 KB",
        path="/cached/medium.png",
        answer=MEDIUM,
        needs=DISK,
        source="cache",
        aim=1.2,
    ),
    Job(
        name="hit-10m",
        title="disk hit, 10 MB",
        path="/cached/huge.png",
        answer=HUGE,
        needs=DISK,
        source="cache",
        aim=1.2,
    ),
    Job(
        name="storing",
        title="storing miss, 1 KB",
        path="/cached/new",
        answer=SMALL,
        needs=CACHE,
        source="upstream",
        group=1,
        fetches=1,
        aim=1.5,
    ),
    Job(
        name="collapsed",
        title="collapsed miss, 1 KB",
        path="/cached/slow",
        answer=SMALL,
        needs=COLLAPSE,
        source="upstream",
        group=CROWD,
        fetches=1 / CROWD,
        clients=CROWD,
    ),
    # nginx's proxy_cache_lock is for what is not stored yet; of what has expired all who ask at
    # once go upstream. So it has no number here that it must keep to, and neither has proxyd.
    Job(
        name="expiring",
        title="expiring key, 1 KB",
        path="/cached/expiring",
        answer=SMALL,
        needs=CACHE,
        source="cache",
        fetches=None,
        clients=CROWD,
    ),
)


def write_files(folder: Path) -> None:
    """Make what the static jobs ask for."""
    folder.mkdir()
    for job in JOBS:
        if job.path.startswith("/static/"):
            (folder / Path(job.path).name).write_bytes(job.answer)
