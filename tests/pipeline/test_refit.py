"""What is stored gets the lifetimes of today's rules, and never more than is safe."""

from typing import Any

import pytest

from proxy.cache.entry import Entry
from proxy.cache.store import Later
from proxy.message import Fields, Request
from proxy.pipeline.refit import refit
from proxy.rules.cache_rule import CacheRule, Override, Paths
from tests.cache.making import entry
from tests.pipeline.caching import answer, asking, cached, held, status_of
from tests.pipeline.upstreams import GET, Server, answering, close

# An answer of ten seconds ago, by both clocks, with a minute to live, by rules that were.
NOW = 1000.0
WALL = 1_600_000_000.0
THEN = CacheRule(lifetime_id=1, storing_id=1)


def stored(*lines: tuple[bytes, bytes], **others: Any) -> Entry:
    given: dict[str, Any] = {
        "fields": Fields(lines or [(b"Cache-Control", b"public, max-age=60")]),
        "request_at": WALL - 10,
        "response_at": WALL - 10,
        "born_at": NOW - 10,
        "fresh_until": NOW + 50,
        "swr_until": NOW + 50,
        "sie_until": NOW + 50,
        "keep_until": NOW + 500,
        "lifetime_id": 1,
        "storing_id": 1,
    }
    return entry(b"http://h/a", b"hello", **given | others)


def request(path: bytes = b"/a") -> Request:
    made = Request(b"GET", path, 1, Fields([(b"Host", b"h")]), path, None, b"h", b"h")
    made.route_path = path
    return made


def refitted(one: Entry, **rule: Any) -> bool:
    changed = {"lifetime_id": 2, "storing_id": 1} | rule
    return refit(one, request(), CacheRule(**changed), NOW)


def test_the_same_rules_change_nothing() -> None:
    one = stored(fresh_until=NOW + 7)  # whatever the fields say
    assert refit(one, request(), THEN, NOW)
    assert one.fresh_until == NOW + 7


@pytest.mark.parametrize(
    ("rule", "left_s"),
    [
        ({}, 50.0),
        ({"max_ttl_s": 30.0}, 20.0),
        ({"max_ttl_s": 5.0}, -5.0),
        ({"min_ttl_s": 600.0}, 590.0),
        ({"force_ttl_s": 100.0}, 90.0),
    ],
)
def test_a_lifetime_counts_from_when_the_answer_came(rule: dict[str, float], left_s: float) -> None:
    one = stored()
    assert refitted(one, **rule)
    assert one.fresh_until == pytest.approx(NOW + left_s)
    assert (one.born_at, one.lifetime_id) == (NOW - 10, 2)


def test_age_that_it_had_when_it_came_stays_counted() -> None:
    one = stored((b"Cache-Control", b"public, max-age=60"), (b"Age", b"20"), born_at=NOW - 30)
    assert refitted(one)
    assert (one.born_at, one.fresh_until) == (NOW - 30, NOW + 30)


def test_the_stale_windows_are_those_of_today() -> None:
    one = stored()
    assert refitted(one, stale_while_revalidate_s=5.0, stale_if_error_s=70.0, keep_s=7.0)
    assert (one.swr_until, one.sie_until) == (NOW + 55, NOW + 120)


def test_what_is_stale_stays_stale() -> None:
    """It may have been purged, softly; its validation costs one request."""
    one = stored(fresh_until=NOW - 1, swr_until=NOW - 1)
    assert refitted(one, force_ttl_s=600.0, stale_while_revalidate_s=9.0)
    assert (one.fresh_until, one.swr_until) == (NOW - 1, NOW + 8)


def test_what_must_be_validated_still_must_be() -> None:
    one = stored(no_cache=True)
    assert refitted(one)
    assert one.no_cache


def test_what_was_read_otherwise_is_not_used() -> None:
    """A `private` that was ignored is not there to be heeded now."""
    assert not refitted(stored(), storing_id=2)


def test_the_rule_for_this_answer_counts() -> None:
    rule = CacheRule(
        lifetime_id=1,
        storing_id=1,
        overrides=(
            Override(
                rule=CacheRule(max_ttl_s=20.0, lifetime_id=3, storing_id=1),
                paths=Paths(exact=frozenset((b"/short",))),
            ),
        ),
    )
    one = stored()
    assert refit(one, request(b"/short"), rule, NOW)
    assert one.fresh_until == NOW + 10
    assert refit(other := stored(), request(), rule, NOW)
    assert other.fresh_until == NOW + 50


class Disk:
    """Has one entry, for who waits or for who does not."""

    def __init__(self, one: Entry, *, waits: bool) -> None:
        self.one: Entry | None = one
        self.waits = waits
        self.dropped: list[bytes] = []

    def read_now(self, key: bytes, variant: bytes = b"") -> Entry | Later | None:
        return Later() if self.waits else self.one

    async def read(self, key: bytes, variant: bytes = b"") -> Entry | None:
        return self.one

    def drop(self, key: bytes, variant: bytes = b"") -> bool:
        self.dropped.append(key)
        self.one = None
        return True

    def put(self, entry: Entry) -> bool:
        return True

    def touch(self, entry: Entry) -> None:
        """Nobody counts."""


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("storing_id", [1, 2])
async def test_what_comes_from_the_disk_is_looked_at(
    server: Server, waits: bool, storing_id: int
) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=9"))
    rule = CacheRule(force_ttl_s=1000.0, lifetime_id=2, storing_id=storing_id)
    client = cached(server, rule)
    cache = client.wire.site.cache
    assert cache is not None
    await client.ask(GET)  # for an entry with the key, and with times of now
    one = held(client)
    assert one is not None
    cache.memory.remove(one)
    one.lifetime_id = one.storing_id = 1
    one.fresh_until = one.born_at + 9.0
    disk = Disk(one, waits=waits)
    cache.disk = disk  # type: ignore[assignment]  # as much of it as is used
    said = status_of(await client.ask(asking()))
    if storing_id == 1:
        assert said.startswith((b"proxyd; hit; ttl=1000", b"proxyd; hit; ttl=999"))
        assert disk.dropped == []
    else:
        assert said.startswith(b"proxyd; fwd=uri-miss")
        assert disk.dropped == [one.key]
    await close(client)
