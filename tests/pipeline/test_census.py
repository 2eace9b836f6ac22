"""What a worker tells of its memory, and to whom."""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from proxy.cache import codec
from proxy.cache.head import Head
from proxy.cache.memory import MemoryStore
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.cache.tiered import NoPurges, Tiered
from proxy.errors import BadRequestError
from proxy.pipeline import census as module
from proxy.pipeline.admit import admit
from proxy.pipeline.census import FIELD, Census, census
from proxy.pipeline.entrance import Entrance
from proxy.pipeline.exchange import Wait
from proxy.pipeline.respond import respond
from proxy.pipeline.route import route
from tests.cache.making import entry
from tests.pipeline.asking import Asking


def asked(wanted: bytes = b"{}") -> Asking:
    asking = Asking(fields=((FIELD, wanted),))
    asking.site.cache = Tiered(MemoryStore(1 << 20), None, NoPurges(), 1 << 10)
    for key, body, hits in ((b"http://a/1", b"xx", 3), (b"http://a/2?b", b"xxx", 1)):
        made = entry(key + b" cookie:c=d", body, born_at=len(body), fresh_until=7.0)
        made.hits = hits
        asking.site.cache.memory.put(made)
    return asking


def asked_again(before: Asking, wanted: bytes) -> Asking:
    asking = asked(wanted)
    asking.site.cache = before.site.cache
    return asking


async def told(asking: Asking) -> Census:
    wait = census(asking.exchange)
    assert isinstance(wait, Wait)
    assert await wait.work is respond
    response = asking.exchange.response
    assert response is not None
    return msgspec.json.decode(cast("bytes", response.body), type=Census)


def keys(census: Census) -> list[str]:
    return [item.key[len("http://a/")] for item in census.items]


async def test_it_counts_without_listing() -> None:
    asking = asked()
    found = await told(asking)
    assert (found.entries, found.hits, found.items) == (2, 4, [])
    assert found.cost_bytes > 2000
    assert asking.exchange.inner  # no client's log line


@pytest.mark.parametrize(
    ("wanted", "listed"),
    [
        ({"limit": 9}, ["2", "1"]),
        ({"limit": 1}, ["2"]),
        ({"limit": 9, "sort": "age"}, ["1", "2"]),
        ({"limit": 9, "sort": "hits"}, ["1", "2"]),
        ({"limit": 9, "sort": "key"}, ["1", "2"]),
        ({"limit": 9, "pattern": "*/2?b"}, ["2"]),
        ({"limit": 9, "pattern": "*/?"}, []),
    ],
)
async def test_it_lists_what_is_wanted(wanted: dict[str, Any], listed: list[str]) -> None:
    assert keys(await told(asked(msgspec.json.encode(wanted)))) == listed


async def test_an_entry_is_described() -> None:
    (item,) = (await told(asked(b'{"limit": 1}'))).items
    assert (item.key, item.variant, item.status) == ("http://a/2?b cookie:c=d", "", 200)
    assert (item.size_bytes, item.hits, item.age_s, item.fresh_s) == (3, 1, 2.0, 2.0)


async def test_an_entry_is_as_the_purges_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    asking = asked(b'{"limit": 9, "sort": "key"}')
    assert asking.site.cache is not None
    asking.site.cache.purges = purges = Purges(tmp_path)
    for one in asking.site.cache.memory.entries():
        one.purge_seq = purges.current()
    purges.add(Kind.URL, Verdict.HARD, b"http://a/1")
    purges.add(Kind.URL, Verdict.SOFT, b"http://a/2?b")
    (item,) = (await told(asking)).items
    assert item.key.startswith("http://a/2?b")
    assert -1e-6 < item.fresh_s < 0
    purges.close()


async def test_a_key_is_told_with_all_its_entries() -> None:
    asking = asked(b'{"key": "http://a/1 cookie:c=d"}')
    (held,) = (await told(asking)).held
    head = codec.decode(held.head)
    assert isinstance(head, Head)
    assert (head.key, head.size_bytes, held.hits) == (b"http://a/1 cookie:c=d", 2, 3)
    assert asking.site.cache is not None
    for language in (b"de", b"fr"):
        variant = entry(b"http://a/\xe4", vary=(b"accept-language",), variant=language)
        asking.site.cache.memory.put(variant)
    asking = asked_again(asking, msgspec.json.encode({"key": "http://a/\xe4"}))
    assert len((await told(asking)).held) == 2
    assert (await told(asked(b'{"key": "http://other/"}'))).held == []


async def test_without_a_cache_there_is_nothing() -> None:
    asking = asked()
    asking.site.cache = None
    assert await told(asking) == Census(0, 0, 0, [])


def test_what_is_no_census_is_refused() -> None:
    with pytest.raises(BadRequestError):
        census(asked(b'{"limit": "all"}').exchange)


def test_only_the_private_socket_takes_it() -> None:
    asking = asked()
    assert admit(asking.exchange) is route
    asking.exchange.peer.entrance = Entrance(inside=True)
    assert admit(asking.exchange) is census
