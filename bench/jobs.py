"""What is measured: three requests, each with the answer that it must get."""

import random
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import final

from bench.errors import BenchError

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
LARGE = _random.randbytes(KB * KB)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request. `aim` is how much CPU proxyd may use of what nginx uses."""

    name: str
    title: str
    path: str
    answer: bytes
    aim: float


JOBS = (
    Job(name="small", title="1 KB file", path="/static/small.png", answer=SMALL, aim=1.0),
    Job(name="large", title="1 MB file", path="/static/large.png", answer=LARGE, aim=1.0),
    Job(name="forward", title="forwarded, 1 KB", path="/feed?page=2", answer=SMALL, aim=1.5),
)


def write_files(folder: Path) -> None:
    """Make what the static jobs ask for."""
    folder.mkdir()
    for job in JOBS:
        if job.path.startswith("/static/"):
            (folder / Path(job.path).name).write_bytes(job.answer)


def verify(job: Job, port: int, server: str) -> None:
    """Ask once as the load generator will, and compare. Raises BenchError."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", job.path, headers=BROWSER_FIELDS)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200 or sha256(body).digest() != sha256(job.answer).digest():
        raise BenchError(
            f"{server} answered {job.path} with status {response.status} and {len(body)} bytes,"
            f" which are not the {len(job.answer)} bytes that it should send"
        )
