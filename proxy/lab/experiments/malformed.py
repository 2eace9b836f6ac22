"""Requests that two servers could read in two ways: who lets them through to the application."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import final

from proxy.lab.experiment import OVERHEAD_S, Due
from proxy.lab.model import Metric, Picture, Probe, Verdict
from proxy.lab.services import HOST
from proxy.lab.sizes import Sizes
from proxy.lab.visit import Observation, Visit

TIMEOUT_S = 0.3
ANSWER_LIMIT_BYTES = 65536
SHOWN_BYTES = 400
# What says that the request is to blame. A 502 would say that the application was.
REFUSALS = {"400", "404", "405", "411", "413", "414", "417", "421", "431", "501", "505"}
FORGED = "203.0.113.66"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A request by its bytes. `harm`: the part that does it, when it can be taken out."""

    key: str
    title: str
    explanation: str
    sent: bytes
    harm: str = ""


def hidden(key: str) -> bytes:
    """Return a second request that hides in the content of a first."""
    return f"GET /lab/probe/hidden-{key} HTTP/1.1\r\nHost: lab.test\r\n\r\n".encode()


def request(key: str, *fields: str, body: bytes = b"", method: str = "POST") -> bytes:
    """Return a request with these very field lines."""
    lines = [f"{method} /lab/probe/{key} HTTP/1.1", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def both(key: str, name: str) -> bytes:
    """Return a request whose length is that of all by one field, and nothing by another."""
    body = b"0\r\n\r\n" + hidden(key)
    return request(key, "Host: lab.test", f"Content-Length: {len(body)}", name, body=body)


MALFORMED = (
    Malformed(
        key="cl-te",
        title="Content-Length and Transfer-Encoding at once",
        explanation="One server counts bytes, the next reads chunks: the rest of the content "
        "becomes somebody else's request. RFC 9112 §6.3",
        sent=both("cl-te", "Transfer-Encoding: chunked"),
    ),
    Malformed(
        key="te-space",
        title="A space before the colon",
        explanation="“Transfer-Encoding : chunked” is a field to one server and none to another. "
        "RFC 9112 §5.1",
        sent=both("te-space", "Transfer-Encoding : chunked"),
    ),
    Malformed(
        key="te-strange",
        title="A transfer coding that nobody knows",
        explanation="Whoever ignores “xchunked” and whoever takes it for chunked disagree about "
        "the end. RFC 9112 §6.1",
        sent=both("te-strange", "Transfer-Encoding: xchunked"),
    ),
    Malformed(
        key="two-lengths",
        title="Two lengths",
        explanation="The first and the last Content-Length name different ends. RFC 9112 §6.3",
        sent=request(
            "two-lengths",
            "Host: lab.test",
            "Content-Length: 0",
            f"Content-Length: {len(hidden('two-lengths'))}",
            body=hidden("two-lengths"),
        ),
    ),
    Malformed(
        key="chunk-size",
        title="A chunk size that is no number",
        explanation="“0x5” is five to a lenient parser and zero to another. RFC 9112 §7.1",
        sent=request(
            "chunk-size",
            "Host: lab.test",
            "Transfer-Encoding: chunked",
            body=b"0x5\r\nhello\r\n0\r\n\r\n",
        ),
    ),
    Malformed(
        key="nul",
        title="A zero byte in a field",
        explanation="Where one program ends the value and another reads on. RFC 9110 §5.5",
        sent=request("nul", "Host: lab.test", "X-Lab: a\0b", method="GET"),
    ),
    Malformed(
        key="two-hosts",
        title="Two hosts",
        explanation="A cache files the answer under one, the application answers for the other. "
        "RFC 9112 §3.2",
        sent=request("two-hosts", "Host: lab.test", "Host: other.test", method="GET"),
    ),
    Malformed(
        key="no-host",
        title="No host",
        explanation="HTTP/1.1 asks every server to refuse it. RFC 9112 §3.2",
        sent=request("no-host", "Accept: */*", method="GET"),
    ),
    Malformed(
        key="forged",
        title="A forged client address",
        explanation="X-Forwarded-For is what the front says about its client; what a client says "
        "about itself has to go.",
        sent=request("forged", "Host: lab.test", f"X-Forwarded-For: {FORGED}", method="GET"),
        harm=FORGED,
    ),
)


@final
class MalformedRequests:
    """Sent by raw socket; the application tells what arrived."""

    key = "malformed"
    number = 8
    title = "Malformed and smuggled requests"
    question = "Who lets them through to the application?"
    picture: Picture = "probes"
    headline = "through"
    metrics: list[Metric] = [  # noqa: RUF012
        Metric(key="through", title="Got through to the application", unit="", better="less"),
        Metric(key="smuggled", title="Smuggled a second request", unit="", better="less"),
    ]
    due: Due = "first round"

    def method(self, _: Sizes) -> str:
        """Say what is done."""
        return (
            f"{len(MALFORMED)} requests are sent byte by byte as they stand here, each on a "
            "connection of its own, all at the same time. The application notes what reaches it, "
            "and is asked afterwards."
        )

    def takes_s(self, _: Sizes) -> float:
        """Return about how long it takes."""
        return TIMEOUT_S + OVERHEAD_S

    def observe(self, visit: Visit) -> Observation:
        """Do it once."""
        visit.stack.ask("/lab/seen")
        with ThreadPoolExecutor(len(MALFORMED)) as threads:
            answers = threads.map(lambda one: exchange(visit.stack.port, one.sent), MALFORMED)
        seen = json.loads(visit.stack.ask("/lab/seen") or b"[]")
        probes = [probe(one, answer, seen) for one, answer in zip(MALFORMED, answers, strict=True)]
        verdicts = [one.verdict for one in probes]
        smuggled = verdicts.count("smuggled")
        return Observation(
            probes=probes,
            figures={
                "through": float(verdicts.count("passed") + smuggled),
                "smuggled": float(smuggled),
            },
        )


def probe(malformed: Malformed, answer: bytes, seen: list[dict[str, str]]) -> Probe:
    """Say what became of a request, by its answer and by what the application saw meanwhile."""
    status = answer.split(b"\r\n", 1)[0].decode("latin-1") if answer.startswith(b"HTTP/") else ""
    return Probe(
        key=malformed.key,
        title=malformed.title,
        sent=escaped(malformed.sent),
        answer=status,
        verdict=verdict(malformed, seen, status),
        explanation=malformed.explanation,
    )


def verdict(malformed: Malformed, seen: list[dict[str, str]], status: str) -> Verdict:
    """Judge by what the application saw, and by the answer where it saw nothing."""
    if any(note["name"] == f"hidden-{malformed.key}" for note in seen):
        return "smuggled"
    mine = [note for note in seen if note["name"] == malformed.key]
    if mine:
        arrived = any(malformed.harm in value for note in mine for value in note.values())
        return "passed" if arrived else "cleaned"
    return "refused" if status[9:12] in REFUSALS else "silent"


def exchange(port: int, sent: bytes) -> bytes:
    """Send bytes, and return what comes until it ends or nothing comes any more."""
    received = b""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=TIMEOUT_S) as sock:
        sock.sendall(sent)
        while len(received) < ANSWER_LIMIT_BYTES and (piece := sock.recv(65536)):
            received += piece
    return received


def escaped(sent: bytes) -> str:
    """Write bytes so that all of them can be read, one line of the request on each line."""
    text = sent[:SHOWN_BYTES].decode("latin-1")
    lines = [line.encode("unicode_escape").decode() for line in text.split("\r\n")]
    return "\\r\\n\n".join(lines)
