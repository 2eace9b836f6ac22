"""Servers that lie to the benchmark: each is found out, and none is measured."""

from dataclasses import replace
from email.message import Message
from http.client import HTTPMessage

import pytest

from bench import checks
from bench.errors import BenchError
from bench.jobs import JOBS, SMALL, Job
from tests.bench.liars import liar

HIT, STORING, CONDITIONAL, COLLAPSED, EXPIRING = (
    next(job for job in JOBS if job.name == name)
    for name in ("hit", "storing", "conditional", "collapsed", "expiring")
)


@pytest.mark.parametrize("job", [HIT, STORING])
@pytest.mark.parametrize(
    "says",
    [
        ("X-Cache", "MISS", "HIT"),
        ("Cache-Status", "proxyd; fwd=uri-miss; stored", "proxyd; hit; ttl=5"),
    ],
)
def test_a_server_that_stores_what_it_fetched_is_measured(
    job: Job, says: tuple[str, str, str]
) -> None:
    with liar(says) as server:
        checks.verify(job, server)


def test_a_server_that_does_not_store_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "STORE_TIMEOUT_S", 0.1)
    with (
        liar(("X-Cache", "MISS", "MISS")) as server,
        pytest.raises(BenchError, match=r"liar did not store /cached/small\.png"),
    ):
        checks.verify(HIT, server)


def test_a_server_that_has_what_nobody_asked_for_is_not_measured() -> None:
    with (
        liar(("X-Cache", "HIT", "HIT")) as server,
        pytest.raises(BenchError, match=r"/cached/new/first from its cache"),
    ):
        checks.verify(STORING, server)


def test_a_server_that_forgot_what_it_sent_under_load_is_not_measured() -> None:
    with liar(("X-Cache", "MISS", "HIT")) as server:
        with pytest.raises(BenchError, match="not from its cache"):
            checks.check_stored(STORING, server, "/cached/new/1-7")
        checks.check_stored(STORING, server, "/cached/new/1-7")


def test_content_that_is_another_is_not_measured() -> None:
    with (
        liar(("X-Cache", "MISS", "HIT"), SMALL[::-1]) as server,
        pytest.raises(BenchError, match="are not the 200 and 1024 bytes"),
    ):
        checks.verify(HIT, server)


def test_content_in_place_of_304_is_not_measured() -> None:
    with (
        liar(("X-Cache", "MISS", "HIT")) as server,
        pytest.raises(BenchError, match="are not the 304 and 0 bytes"),
    ):
        checks.verify(CONDITIONAL, server)


@pytest.mark.parametrize(
    ("name", "value", "hit"),
    [
        ("Cache-Status", "proxyd; hit", True),
        ("Cache-Status", "proxyd;hit;ttl=12", True),
        ("Cache-Status", "inner; hit, proxyd; fwd=uri-miss; stored", False),
        ("Cache-Status", "inner; fwd=uri-miss, proxyd; hit; ttl=1", True),
        ("Cache-Status", "proxyd; fwd=stale; detail=hitless", False),
        ("X-Cache", "HIT", True),
        ("X-Cache", "EXPIRED", False),
        ("X-Cache", "REVALIDATED", False),
        ("Age", "12", False),
    ],
)
def test_a_hit_is_what_the_nearest_cache_calls_one(name: str, value: str, hit: bool) -> None:
    fields: Message = HTTPMessage()
    fields[name] = value
    assert isinstance(fields, HTTPMessage)
    assert checks.is_hit(fields) == hit


@pytest.mark.parametrize(
    ("job", "fetched"),
    [(HIT, 0), (STORING, 10_000), (STORING, 10_016), (COLLAPSED, 157), (EXPIRING, 9_999)],
)
def test_what_the_upstream_is_to_get_is_allowed(job: Job, fetched: int) -> None:
    checks.check_fetches(job, "proxyd", 10_000, fetched)


@pytest.mark.parametrize(
    ("job", "fetched"),
    [(HIT, 100), (STORING, 5_000), (STORING, 20_000), (COLLAPSED, 10_000), (COLLAPSED, 0)],
)
def test_a_server_that_fetches_too_often_or_not_at_all_is_found_out(job: Job, fetched: int) -> None:
    with pytest.raises(BenchError, match=f"asked the upstream {fetched} times"):
        checks.check_fetches(job, "proxyd", 10_000, fetched)


def test_a_few_requests_are_allowed_to_be_under_way() -> None:
    checks.check_fetches(replace(HIT, fetches=1), "nginx", 3, 5)
