"""Names become addresses once, and stay so while a name server fails."""

import asyncio

import pytest

from proxy.errors import UpstreamError
from proxy.upstream.resolve import FRESH_S, Resolver, look_up


class NameServer:
    """Answers as told, when told; counts the questions."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        await self.open.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


def age(resolver: Resolver, seconds: float) -> None:
    """Make everything that the resolver knows older."""
    for known in resolver._names.values():
        known.asked_at -= seconds


async def settle(resolver: Resolver) -> None:
    """Wait for the lookups under way."""
    for known in resolver._names.values():
        if known.task is not None:
            await known.task


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%1"])
async def test_an_address_is_not_looked_up(host: str) -> None:
    server = NameServer()
    assert await Resolver(server).resolve(host) == [host]
    assert not server.asked


async def test_a_name_is_looked_up_once_while_it_is_fresh() -> None:
    server = NameServer(["192.0.2.1", "192.0.2.2"])
    resolver = Resolver(server)
    assert await resolver.resolve("app") == ["192.0.2.1", "192.0.2.2"]
    assert await resolver.resolve("app") == ["192.0.2.1", "192.0.2.2"]
    assert server.asked == ["app"]


async def test_many_first_questions_are_one_lookup() -> None:
    server = NameServer(["192.0.2.1"])
    server.open.clear()
    resolver = Resolver(server)
    questions = [asyncio.ensure_future(resolver.resolve("app")) for _ in range(3)]
    await asyncio.sleep(0)
    server.open.set()
    assert await asyncio.gather(*questions) == [["192.0.2.1"]] * 3
    assert server.asked == ["app"]


async def test_one_who_stops_waiting_does_not_stop_the_lookup() -> None:
    server = NameServer(["192.0.2.1"])
    server.open.clear()
    resolver = Resolver(server)
    first, second = (asyncio.ensure_future(resolver.resolve("app")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    server.open.set()
    assert await second == ["192.0.2.1"]


async def test_an_old_answer_is_used_while_a_new_one_is_fetched() -> None:
    server = NameServer(["192.0.2.1"], ["192.0.2.9"])
    resolver = Resolver(server)
    await resolver.resolve("app")
    age(resolver, FRESH_S)
    server.open.clear()
    assert await resolver.resolve("app") == ["192.0.2.1"]
    assert await resolver.resolve("app") == ["192.0.2.1"]
    server.open.set()
    await settle(resolver)
    assert await resolver.resolve("app") == ["192.0.2.9"]
    assert server.asked == ["app", "app"]


async def test_a_failing_refresh_keeps_the_old_addresses_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = NameServer(["192.0.2.1"], OSError("down"), OSError("down"), ["192.0.2.9"])
    resolver = Resolver(server)
    await resolver.resolve("app")
    for _ in range(2):
        age(resolver, FRESH_S)
        assert await resolver.resolve("app") == ["192.0.2.1"]
        await settle(resolver)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot find the address of app any more (down); going on with 192.0.2.1"
    ]
    age(resolver, FRESH_S)
    await resolver.resolve("app")
    await settle(resolver)
    assert await resolver.resolve("app") == ["192.0.2.9"]


async def test_a_name_that_is_not_found_is_an_error_and_is_asked_for_again() -> None:
    server = NameServer(OSError("no such name"), ["192.0.2.1"])
    resolver = Resolver(server)
    with pytest.raises(UpstreamError, match="address of app: no such name; check the name"):
        await resolver.resolve("app")
    assert await resolver.resolve("app") == ["192.0.2.1"]


async def test_the_system_knows_this_machine() -> None:
    addresses = await look_up("localhost")
    assert set(addresses) <= {"127.0.0.1", "::1"}
    assert len(addresses) == len(set(addresses)) > 0
