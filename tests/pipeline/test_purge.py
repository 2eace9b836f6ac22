"""PURGE requests: who may send them, what they come to, and what becomes of what is stored."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.cache.memory import MemoryStore
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.cache.tiered import NoPurges, Tiered
from proxy.errors import BadRequestError, ForbiddenError, HttpError, NotFoundError, PurgeError
from proxy.message import FieldLine, Fields
from proxy.pipeline.admit import admit
from proxy.pipeline.purge import purge, purge_words
from proxy.pipeline.respond import respond
from proxy.pipeline.route import route
from proxy.pipeline.site import Route
from proxy.pipeline.static import static
from proxy.rules.cache_rule import CacheRule, KeyRule
from proxy.rules.forwarding import TrustedNetworks
from tests.pipeline.asking import Asking
from tests.pipeline.caching import answer, cached, held
from tests.pipeline.upstreams import GET, Server, answering, close

EVERY = (b"http://h/a", b"https://h/a")


@pytest.fixture
def purges(tmp_path: Path) -> Iterator[Purges]:
    opened = Purges(tmp_path)
    yield opened
    opened.close()


def cached_route(path: bytes = b"/*", **key: Any) -> Route:
    made = Route("cached", route, path)
    made.cache = CacheRule(key=KeyRule(**key))
    return made


def asked(
    *routes: Route,
    path: bytes = b"/a",
    query: bytes | None = None,
    fields: tuple[FieldLine, ...] = (),
    allowed: str = "192.0.2.0/24",
    purges: object = None,
) -> Asking:
    asking = Asking(*routes, method=b"PURGE", path=path, fields=fields)
    asking.exchange.request.query = query
    asking.site.purge_from = TrustedNetworks((allowed,))
    kept = cast("Purges", purges or NoPurges())
    asking.site.cache = Tiered(MemoryStore(1 << 20), None, kept, 1 << 10)
    return asking


def told(asking: Asking) -> Any:
    assert purge(asking.exchange) is respond
    response = asking.exchange.response
    assert response is not None
    assert (response.status, type(response.body)) == (200, bytes)
    return json.loads(cast("bytes", response.body))


def recorded(purges: Purges) -> list[tuple[Kind, Verdict, bytes]]:
    return [(Kind(one.kind), Verdict(one.mode), one.argument) for one in purges.records()]


def test_purge_is_a_method_like_any_other_while_nobody_is_named_for_it() -> None:
    asking = Asking(method=b"PURGE")
    assert admit(asking.exchange) is route


def test_purge_goes_to_its_own_step_when_somebody_is_named() -> None:
    assert admit(asked(cached_route()).exchange) is purge


def test_others_are_refused(purges: Purges) -> None:
    with pytest.raises(ForbiddenError, match="purge_from"):
        purge(asked(cached_route(), allowed="10.0.0.0/8", purges=purges).exchange)
    assert recorded(purges) == []


def test_it_is_the_client_that_counts_and_not_the_proxy_in_between() -> None:
    asking = asked(cached_route())
    asking.exchange.client = "203.0.113.9"
    with pytest.raises(ForbiddenError):
        purge(asking.exchange)


def test_a_url_is_purged_over_http_and_https(purges: Purges) -> None:
    said = told(asked(cached_route(), purges=purges))
    assert recorded(purges) == [(Kind.URL, Verdict.HARD, url) for url in EVERY]
    assert said == {
        "mode": "hard",
        "purged": [{"kind": "url", "what": url.decode()} for url in EVERY],
    }


@pytest.mark.parametrize(
    ("key", "urls"),
    [
        ({}, [b"http://h/a?utm_a=1&b=2", b"https://h/a?utm_a=1&b=2"]),
        ({"scheme": False}, [b"*://h/a?utm_a=1&b=2"]),
        ({"scheme": False, "host": False}, [b"*://*/a?utm_a=1&b=2"]),
    ],
)
def test_what_the_key_of_the_route_leaves_out_is_left_out(
    key: dict[str, Any], urls: list[bytes], purges: Purges
) -> None:
    other = Route("files", static, b"/static/*")
    told(asked(other, cached_route(**key), query=b"utm_a=1&b=2", purges=purges))
    assert [argument for _kind, _mode, argument in recorded(purges)] == urls


def test_a_star_stands_for_anything_whatever_the_route(purges: Purges) -> None:
    routes = [cached_route(b"/a/*"), cached_route(b"/b/*", scheme=False), cached_route(b"/c/*")]
    told(asked(*routes, Route("files", static, b"/static/*"), path=b"/*", purges=purges))
    assert recorded(purges) == [
        (Kind.PATTERN, Verdict.HARD, pattern)
        for pattern in (b"http://h/*", b"https://h/*", b"*://h/*")
    ]


def test_a_star_in_the_query_is_one_as_well(purges: Purges) -> None:
    told(asked(cached_route(), query=b"page=*", purges=purges))
    assert recorded(purges)[0] == (Kind.PATTERN, Verdict.HARD, b"http://h/a?page=*")


@pytest.mark.parametrize("name", [b"Cache-Tag", b"Surrogate-Key", b"xkey"])
def test_tags_are_purged_and_not_the_url(name: bytes, purges: Purges) -> None:
    value = b"news,front" if name == b"Cache-Tag" else b"news front"
    told(asked(cached_route(), fields=((name, value),), purges=purges))
    assert recorded(purges) == [
        (Kind.TAG, Verdict.HARD, b"news"),
        (Kind.TAG, Verdict.HARD, b"front"),
    ]


def test_too_long_a_tag_is_refused_rather_than_left_out() -> None:
    with pytest.raises(BadRequestError):
        purge(asked(cached_route(), fields=((b"xkey", b"x" * 2000 + b" news"),)).exchange)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ((b"Fastly-Soft-Purge", b"1"), {b"soft"}),
        ((b"Fastly-Soft-Purge", b"0"), set()),
        ((b"Proxyd-Purge", b"Soft"), {b"soft"}),
        ((b"Proxyd-Purge", b"all, soft"), {b"all", b"soft"}),
        ((b"Accept", b"*/*"), set()),
    ],
)
def test_how_to_purge_is_said_in_fields(line: FieldLine, words: set[bytes]) -> None:
    assert purge_words(Fields([line])) == words


def test_an_unknown_word_purges_nothing(purges: Purges) -> None:
    with pytest.raises(BadRequestError, match="al"):
        purge(asked(cached_route(), fields=((b"Proxyd-Purge", b"al"),), purges=purges).exchange)
    assert recorded(purges) == []


def test_everything_goes_when_that_is_said(purges: Purges) -> None:
    fields = ((b"Proxyd-Purge", b"all"), (b"Fastly-Soft-Purge", b"1"))
    assert told(asked(fields=fields, purges=purges)) == {
        "mode": "soft",
        "purged": [{"kind": "all", "what": ""}],
    }
    assert recorded(purges) == [(Kind.ALL, Verdict.SOFT, b"")]


def test_where_nothing_is_cached_nothing_is_purged() -> None:
    asking = asked(Route("files", static, b"/*"))
    asking.site.cache = None
    assert told(asking) == {"mode": "hard", "purged": []}


def test_a_url_without_a_route_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        purge(asked(cached_route(b"/b")).exchange)


def test_what_could_not_be_noted_is_an_error() -> None:
    class Locked(NoPurges):
        def add(self, kind: Kind, mode: Verdict, argument: bytes = b"") -> None:
            raise PurgeError("it is locked")

    with pytest.raises(HttpError, match="it is locked"):
        purge(asked(cached_route(), purges=Locked()).exchange)


async def test_a_purged_answer_is_fetched_again(server: Server, purges: Purges) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=60"))
    client = cached(server)
    site = client.wire.site
    assert site.cache is not None
    site.cache.purges = purges
    site.purge_from = TrustedNetworks(("192.0.2.0/24", "127.0.0.0/8", "unix:"))
    await client.ask(GET)
    assert held(client) is not None
    done = await client.ask(GET.replace(b"GET", b"PURGE"))
    assert done.startswith(b"HTTP/1.1 200 ")
    assert b'"http://h/a?b"' in done
    again = await client.ask(GET)
    assert b"fwd=uri-miss" in again
    assert len(server.heads) == 2
    await close(client)
