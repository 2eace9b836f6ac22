"""The step that tells what a worker keeps in memory: for the tools, on its private socket only.

    GET /  Proxyd-Census: {"pattern": "*", "sort": "size", "limit": 20}
    GET /  Proxyd-Census: {"key": "http://HOST/PATH"}

The answer is JSON: `Census` below. Sorting 100,000 entries takes a tenth of a second, so it is done
in a thread.
"""

import asyncio
import re
from collections.abc import Callable
from fnmatch import translate
from time import time
from typing import Literal

import msgspec

from proxy.cache import codec
from proxy.cache.boot import boot_name
from proxy.cache.entry import Entry
from proxy.cache.head import Now
from proxy.cache.memory import MemoryStore, Variants
from proxy.errors import BadRequestError
from proxy.message import Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.respond import respond
from proxy.rules.cache_key import key_url

FIELD = b"Proxyd-Census"
NAME = FIELD.lower()

# Entries that are described in one turn of the event loop, half a millisecond.
AT_ONCE = 200

Order = Literal["size", "age", "hits", "key"]


class Wanted(msgspec.Struct, frozen=True):
    """Which entries to list; in the pattern only `*` is special. And of which key to tell all."""

    pattern: str = "*"
    sort: Order = "size"
    limit: int = 0
    key: str = ""


class Kept(msgspec.Struct, frozen=True):
    """One entry; text is Latin-1 of the bytes. `age_s` and `fresh_s` are as of now."""

    key: str
    variant: str
    status: int
    size_bytes: int
    hits: int
    age_s: float
    fresh_s: float


class Held(msgspec.Struct, frozen=True):
    """All of an entry but its content; `head` is what `cache.codec` makes of it."""

    head: bytes
    hits: int


class Census(msgspec.Struct, frozen=True):
    """What a worker keeps in memory: how much, and the entries that were asked for.

    `held` are those of one key.
    """

    entries: int
    cost_bytes: int
    hits: int
    items: list[Kept]
    held: list[Held] = []


_wanted = msgspec.json.Decoder(Wanted)
_encode = msgspec.json.Encoder().encode

_ORDER: dict[Order, Callable[[Entry], tuple[float, bytes]]] = {
    "size": lambda entry: (-entry.size_bytes, entry.key),
    "age": lambda entry: (entry.born_at, entry.key),
    "hits": lambda entry: (-entry.hits, entry.key),
    "key": lambda entry: (0, entry.key),
}


def census(exchange: Exchange) -> Wait:
    """Tell what is in the memory of this worker. Raises BadRequestError."""
    try:
        wanted = _wanted.decode(exchange.request.fields.get(NAME) or b"{}")
    except msgspec.DecodeError as error:
        raise BadRequestError(f"no census of a tool: {error}") from None
    return Wait(_taken(exchange, wanted))


async def _taken(exchange: Exchange, wanted: Wanted) -> Step:
    cache = exchange.site.cache
    exchange.inner = True
    memory = MemoryStore(0) if cache is None else cache.memory
    now = exchange.sink.now()
    loop = asyncio.get_running_loop()
    entries = memory.entries()
    hits, found = await loop.run_in_executor(None, sorted_out, entries, wanted)
    items = []
    for number, entry in enumerate(found, 1):
        # As the next request would have it, which purges are compared with the entry for.
        if cache is not None and cache.unpurged(entry, now):
            items.append(_kept(entry, now))
        if not number % AT_ONCE:
            await asyncio.sleep(0)
    taken = Census(len(entries), memory.cost_bytes, hits, items)
    if wanted.key:
        clocks = Now(time(), now, boot_name())
        taken = msgspec.structs.replace(taken, held=held_of(memory, wanted.key, clocks))
    exchange.response = Response(200, [(b"Content-Type", b"application/json")], _encode(taken))
    return respond


def sorted_out(entries: list[Entry], wanted: Wanted) -> tuple[int, list[Entry]]:
    """Count the hits of all entries, and find those that are wanted."""
    literal = wanted.pattern.replace("[", "[[]").replace("?", "[?]")
    matches = re.compile(translate(literal).encode("latin-1", "replace")).match
    found = [entry for entry in entries if matches(key_url(entry.key))] if wanted.limit else []
    found.sort(key=_ORDER[wanted.sort])
    return sum([entry.hits for entry in entries]), found[: wanted.limit]


def _kept(entry: Entry, now: float) -> Kept:
    return Kept(
        entry.key.decode("latin-1"),
        entry.variant.decode("latin-1"),
        entry.status,
        entry.size_bytes,
        entry.hits,
        now - entry.born_at,
        entry.fresh_until - now,
    )


def held_of(memory: MemoryStore, key: str, now: Now) -> list[Held]:
    """Describe the entries of one key, given as Latin-1 of its bytes."""
    found = memory.get(key.encode("latin-1", "replace"))
    entries = found.entries() if isinstance(found, Variants) else [found] if found else []
    return [Held(codec.encode(entry, now), entry.hits) for entry in entries]
