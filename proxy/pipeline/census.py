"""The step that tells what a worker keeps in memory: for the tools, on its private socket only.

    GET /  Proxyd-Census: {"pattern": "*", "sort": "size", "limit": 20}

The answer is JSON: `Census` below. Sorting 100,000 entries takes a tenth of a second, so it is done
in a thread.
"""

import asyncio
import re
from collections.abc import Callable
from fnmatch import translate
from typing import Literal

import msgspec

from proxy.cache.entry import Entry
from proxy.errors import BadRequestError
from proxy.message import Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.respond import respond
from proxy.rules.cache_key import key_url

FIELD = b"Proxyd-Census"
NAME = FIELD.lower()

Order = Literal["size", "age", "hits", "key"]


class Wanted(msgspec.Struct, frozen=True):
    """Which entries to list; in the pattern only `*` is special."""

    pattern: str = "*"
    sort: Order = "size"
    limit: int = 0


class Kept(msgspec.Struct, frozen=True):
    """One entry; text is Latin-1 of the bytes. `age_s` and `fresh_s` are as of now."""

    key: str
    variant: str
    status: int
    size_bytes: int
    hits: int
    age_s: float
    fresh_s: float


class Census(msgspec.Struct, frozen=True):
    """What a worker keeps in memory: how much, and the entries that were asked for."""

    entries: int
    cost_bytes: int
    hits: int
    items: list[Kept]


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
    entries = [] if cache is None else cache.memory.entries()
    cost_bytes = 0 if cache is None else cache.memory.cost_bytes
    loop = asyncio.get_running_loop()
    taken = await loop.run_in_executor(
        None, taken_of, entries, cost_bytes, wanted, exchange.sink.now()
    )
    exchange.response = Response(200, [(b"Content-Type", b"application/json")], _encode(taken))
    return respond


def taken_of(entries: list[Entry], cost_bytes: int, wanted: Wanted, now: float) -> Census:
    """Count entries, and describe those that are wanted."""
    literal = wanted.pattern.replace("[", "[[]").replace("?", "[?]")
    matches = re.compile(translate(literal).encode("latin-1", "replace")).match
    found = [entry for entry in entries if matches(key_url(entry.key))] if wanted.limit else []
    found.sort(key=_ORDER[wanted.sort])
    return Census(
        len(entries),
        cost_bytes,
        sum([entry.hits for entry in entries]),
        [
            Kept(
                entry.key.decode("latin-1"),
                entry.variant.decode("latin-1"),
                entry.status,
                entry.size_bytes,
                entry.hits,
                now - entry.born_at,
                entry.fresh_until - now,
            )
            for entry in found[: wanted.limit]
        ],
    )
