"""A client whose requests go through a cache to a real upstream, and a clock that a test turns."""

import asyncio

from proxy.cache.entry import Entry
from proxy.cache.memory import MemoryStore
from proxy.cache.tiered import NoPurges, Tiered
from proxy.pipeline.forward import forward
from proxy.pipeline.lookup import lookup
from proxy.pipeline.site import Route
from proxy.rules.cache_rule import CacheRule
from tests.pipeline.upstreams import Client, Script, Server


def cached(server: Server, rule: CacheRule | None = None) -> Client:
    """Return a client with a cache of its own before `server`."""
    client = Client(server, step=lookup)
    route = client.route
    route.cache = rule or CacheRule()
    route.bare = bare = Route("test", forward)
    bare.group = route.group
    bare.buffer_response = 0
    client.wire.site.cache = Tiered(MemoryStore(1 << 20), None, NoPurges(), 1 << 18)
    return client


def another(client: Client) -> Client:
    """Return a second client of the same worker."""
    other = Client.__new__(Client)
    other.group = client.group
    other.wire = client.wire.beside()
    other.route = client.route
    other.transport = other.wire.transport
    return other


def held(client: Client) -> Entry | None:
    """Return the only entry in memory."""
    cache = client.wire.site.cache
    assert cache is not None
    entries = cache.memory.entries()
    assert len(entries) < 2
    return entries[0] if entries else None


def later(client: Client, seconds: float) -> None:
    """Let so much time pass for what is stored: everything began so much earlier."""
    cache = client.wire.site.cache
    assert cache is not None
    for entry in cache.memory.entries():
        entry.born_at -= seconds
        entry.fresh_until -= seconds
        entry.swr_until -= seconds
        entry.sie_until -= seconds
        entry.keep_until -= seconds


def answer(fields: bytes, content: bytes = b"hello", status: bytes = b"200 OK") -> bytes:
    """Write an answer of an upstream; `fields` without the last line end."""
    more = fields + b"\r\n" if fields else b""
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, more, len(content), content)


FRESH = answer(b"Cache-Control: max-age=60")


def asking(*fields: bytes, method: bytes = b"GET") -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return method + b" /a?b HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n"


def status_of(out: bytes) -> bytes:
    """Return the members of Cache-Status."""
    return out.partition(b"Cache-Status: ")[2].partition(b"\r\n")[0]


def waiting(*answers: bytes) -> Script:
    """Answer each connection's requests with `answers` in turn, each when told."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        left = list(answers)
        while True:
            await server.take(reader)
            await server.go_on.wait()
            writer.write(left.pop(0) if len(left) > 1 else left[0])

    return script
