"""One visitor's request with all that can be known of where its time went.

The visitor measures from outside, on a connection of its own; the application (its wrapping in
`application`) says what it took; proxyd says the rest in Server-Timing. What nobody tells stays one
part: of other servers it cannot be seen from outside what they did, and what they waited for.
"""

import hmac
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from proxy.lab.application import DIGEST_FIELD, digest
from proxy.lab.load_job import BROKEN, GOOD, REFUSED, TIMED_OUT, WRONG_BODY
from proxy.lab.model import Span
from proxy.rules.server_timing import parse

PATH = "/lab/journey"
READ_BYTES = 1 << 16

# The parts of a journey in their order, and what each of them is.
PARTS = {
    "connecting": "the visitor's connection, which the kernel makes",
    "on the way": "to proxyd and back, until it is its turn: sockets, waiting for a core",
    "accept": "proxyd reads the request and finds its route",
    "cache": "proxyd answers from its cache",
    "queue": "proxyd waits for a free connection to the application",
    "connect": "proxyd opens a connection to the application",
    "server": "the servers that do not tell: their work, their queues, and the ways between",
    "computing": "the application: CPU time of its thread",
    "waiting": "the application: waiting for Python's lock (the GIL), for a core, for its data",
    "answer": "proxyd writes the answer",
    "sending": "from the first byte of the answer to the last",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """A request as its visitor measured it, in seconds, and what the answer says of itself.

    `outcome` is one of `load_job`, or the status; `told` is by name, and `hit` means that it came
    from a cache, so that what the application once said of it is of another request.
    """

    outcome: str
    connecting_s: float = 0.0
    waiting_s: float = 0.0
    sending_s: float = 0.0
    told: dict[str, float]
    hit: bool = False

    @property
    def total_s(self) -> float:
        """From the beginning to the last byte."""
        return self.connecting_s + self.waiting_s + self.sending_s

    @property
    def application_s(self) -> float:
        """What the application took, 0 when it was not asked."""
        return 0.0 if self.hit else self.told.get("app", self.told.get("page", 0.0))

    @property
    def computing_s(self) -> float:
        """How much of that its thread was computing."""
        if self.hit:
            return 0.0
        computing_s = self.told.get("app_cpu", self.told.get("page_cpu", 0.0))
        return min(computing_s, self.application_s)


def travel(address: tuple[str, int], request: bytes, key: bytes, timeout_s: float) -> Trip:
    """Make one request; `key` is the one of the page's digest."""
    began_at = time.perf_counter()
    try:
        with socket.create_connection(address, timeout_s) as sock:
            connected_at = time.perf_counter()
            sock.sendall(request)
            received = sock.recv(READ_BYTES)
            first_at = time.perf_counter()
            while not is_whole(received) and (piece := sock.recv(READ_BYTES)):
                received += piece
            last_at = time.perf_counter()
    except TimeoutError:
        return Trip(outcome=TIMED_OUT, told={})
    except ConnectionRefusedError:
        return Trip(outcome=REFUSED, told={})
    except OSError:
        return Trip(outcome=BROKEN, told={})
    fields = fields_of(received)
    metrics = list(parse(value for name, value in fields if name == b"server-timing"))
    return Trip(
        outcome=judged(received, fields, key),
        connecting_s=connected_at - began_at,
        waiting_s=first_at - connected_at,
        sending_s=last_at - first_at,
        told={one.name.decode("latin-1"): one.duration_s for one in metrics},
        hit=any(one.name == b"cache" and one.description == b"hit" for one in metrics),
    )


def fields_of(received: bytes) -> list[tuple[bytes, bytes]]:
    """Return the field lines of an answer, names in lower case."""
    lines = received.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    split = (line.partition(b":") for line in lines)
    return [(name.lower(), value.strip()) for name, _, value in split]


def is_whole(received: bytes) -> bool:
    """Say whether all of an answer with a Content-Length is here; the page always has one."""
    _, end, body = received.partition(b"\r\n\r\n")
    length = dict(fields_of(received)).get(b"content-length", b"")
    return bool(end) and length.isdigit() and len(body) >= int(length)


def judged(received: bytes, fields: list[tuple[bytes, bytes]], key: bytes) -> str:
    """Say what an answer is worth: the right page, whole, or not."""
    if not is_whole(received):
        return BROKEN
    status = received[9:12].decode("latin-1")
    if status != "200":
        return status
    said = dict(fields).get(DIGEST_FIELD.lower().encode(), b"").decode("latin-1")
    body = received.partition(b"\r\n\r\n")[2]
    return GOOD if hmac.compare_digest(said, digest(key, body)) else WRONG_BODY


def spans(trip: Trip, layers: Sequence[str]) -> list[Span]:
    """Return the parts of a journey, one behind the other; those that took no time are left out.

    `layers` are those of the stack, from the visitor inwards. The way to proxyd and the way back
    are one part: only their sum is known, which stands before what lies between them.
    """
    inner = layers[-2]
    application = [
        ("computing", layers[-1], trip.computing_s),
        ("waiting", layers[-1], trip.application_s - trip.computing_s),
    ]
    if "total" in trip.told:
        middle = inside_proxyd(trip, layers[0], inner, application)
    else:
        servers = " and ".join(layers[:-1])
        middle = [("server", servers, trip.waiting_s - trip.application_s), *application]
    parts = [
        ("connecting", "visitor", trip.connecting_s),
        *middle,
        ("sending", layers[0], trip.sending_s),
    ]
    made: list[Span] = []
    at_s = 0.0
    for name, layer, took_s in parts:
        if took_s > 0:
            made.append(
                Span(
                    name=name,
                    layer=layer,
                    start_ms=round(at_s * 1000, 3),
                    duration_ms=round(took_s * 1000, 3),
                )
            )
            at_s += took_s
    return made


def inside_proxyd(
    trip: Trip, front: str, inner: str, application: list[tuple[str, str, float]]
) -> list[tuple[str, str, float]]:
    """Return the parts between the first byte that was sent and the first that came."""
    told = trip.told
    accept_s, queue_s, connect_s = (told.get(name, 0.0) for name in ("accept", "queue", "connect"))
    way = ("on the way", "network", trip.waiting_s - told["total"])
    if trip.hit:
        cache_s = told.get("cache", 0.0)
        return [way, ("accept", front, accept_s), ("cache", front, cache_s)]
    upstream_s = told.get("upstream", 0.0)
    return [
        way,
        ("accept", front, accept_s),
        ("queue", front, queue_s),
        ("connect", front, connect_s),
        ("server", inner, upstream_s - trip.application_s),
        *application,
        ("answer", front, told["total"] - accept_s - queue_s - connect_s - upstream_s),
    ]
