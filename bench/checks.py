"""Whether a server does what is measured: right answers, from where the job says they come.

A server that answers wrongly, or from the wrong place, is to fail instead of being fast.
"""

import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from typing import final

from bench.errors import BenchError
from bench.jobs import BROWSER_FIELDS, Job
from bench.servers import Server
from bench.upstream import COUNT_PATH

TIMEOUT_S = 10.0
# How long a cache may take until it answers what it was asked before.
STORE_TIMEOUT_S = 5.0
POLL_S = 0.02
# RFC 9211 §2.1; nginx has no such field of its own and is told to send X-Cache.
HIT = re.compile(r"; *hit(?: *;| *=|$)")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came; `hit`: the server says that it had it."""

    status: int
    body: bytes
    hit: bool


def ask(server: Server, job: Job, path: str, fields: Mapping[str, str]) -> Answer:
    """Ask once, as the load generator will."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    if job.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(
            "127.0.0.1", server.tls_port, timeout=TIMEOUT_S, context=context
        )
    try:
        connection.request("GET", path, headers={**BROWSER_FIELDS, **fields})
        response = connection.getresponse()
        return Answer(status=response.status, body=response.read(), hit=is_hit(response.headers))
    finally:
        connection.close()


def is_hit(fields: HTTPMessage) -> bool:
    """Say whether the cache nearest to us says that it had the answer."""
    nearest = fields.get("Cache-Status", "").rpartition(",")[2].strip()
    return fields.get("X-Cache") == "HIT" or HIT.search(nearest) is not None


def verify(job: Job, server: Server) -> None:
    """Bring a server to where the load may begin, and compare its answer. Raises BenchError."""
    path = first_path(job)
    if job.source == "upstream":
        compare(job, server, path, ask(server, job, path, job.fields), hit=False)
    if job.source != "server":
        wait_until_stored(job, server, path)
    if job.source != "upstream":
        answer = ask(server, job, path, job.fields)
        compare(job, server, path, answer, hit=job.source == "cache")


def first_path(job: Job) -> str:
    """Return the path to begin with."""
    if job.among:
        return f"{job.path}/0"
    return f"{job.path}/first" if job.group else job.path


def wait_until_stored(job: Job, server: Server, path: str) -> None:
    """Ask until the answer comes from the cache. Raises BenchError."""
    deadline = time.monotonic() + STORE_TIMEOUT_S
    while not ask(server, job, path, {}).hit:
        if time.monotonic() > deadline:
            raise BenchError(f"{server.name} did not store {path}, so that it cannot be measured")
        time.sleep(POLL_S)


def check_stored(job: Job, server: Server, path: str) -> None:
    """Check that an answer that went out under load has been stored. Raises BenchError."""
    compare(job, server, path, ask(server, job, path, job.fields), hit=True)


def compare(job: Job, server: Server, path: str, answer: Answer, *, hit: bool) -> None:
    """Check one answer. Raises BenchError."""
    if answer.status != job.status or sha256(answer.body).digest() != sha256(job.answer).digest():
        raise BenchError(
            f"{server.name} answered {path} with status {answer.status} and"
            f" {len(answer.body)} bytes, which are not the {job.status} and"
            f" {len(job.answer)} bytes that it should send"
        )
    if answer.hit != hit:
        said = "from its cache" if answer.hit else "not from its cache"
        raise BenchError(f"{server.name} answered {path} {said}, which is not what is measured")


def fetches(upstream_port: int) -> int:
    """Return how many requests the upstream has got."""
    connection = HTTPConnection("127.0.0.1", upstream_port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", COUNT_PATH)
        return int(connection.getresponse().read())
    finally:
        connection.close()


def check_fetches(job: Job, server: str, requests: int, fetched: int) -> None:
    """Compare what the upstream got with what the job says. Raises BenchError.

    Requests that are under way when a round ends count for the upstream, and not for the clients.
    """
    if job.fetches is None:
        return
    expected = requests * job.fetches
    if not expected - job.clients <= fetched <= expected + 2 * job.clients:
        raise BenchError(
            f"{server} asked the upstream {fetched} times for {requests} requests to {job.path},"
            f" and not {expected:.0f} times: it does something else than what is measured"
        )
