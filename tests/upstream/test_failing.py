"""Servers that fail: who is passed over, who is tried again, who waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.errors import NoAnswerError, OverloadedError, StaleConnectionError, UpstreamError
from proxy.rules.health import EjectionRules
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from proxy.upstream.server import Balance, Server
from proxy.upstream.wish import Wish
from tests.upstream.servers import Application, application, ask, get, until

QUICK = GroupOptions(ejection=EjectionRules(failures=2, first_s=0.2, longest_s=0.4))
MANAGED = GroupOptions(
    managed=True,
    max_connections=4,
    queue_timeout_s=5,
    ejection=EjectionRules(first_s=0.5, longest_s=1),
)


def group_of(*servers: Application, options: GroupOptions = QUICK) -> Group:
    return Group("demo", [server.address for server in servers], options)


@asynccontextmanager
async def swept(group: Group) -> AsyncIterator[None]:
    """Call the group's timer as a worker does."""
    loop = asyncio.get_running_loop()

    async def sweep() -> None:
        while True:
            group.sweep(loop.time())
            await asyncio.sleep(0.02)

    task = loop.create_task(sweep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        group.close()


def requests(*servers: Application) -> list[int]:
    counts = [server.requests for server in servers]
    for server in servers:
        server.requests = 0
    return counts


def knocks(group: Group) -> bool:
    return group._knocking is not None and not group._knocking.done()


async def failing(group: Group, count: int) -> None:
    """Let so many requests end without an answer."""
    failed = 0
    while failed < count:
        try:
            await get(group)
        except NoAnswerError:
            failed += 1


# ── Ejection ─────────────────────────────────────────────────────────────────────────────────


async def test_a_server_that_fails_in_a_row_is_passed_over_and_tried_by_one_request() -> None:
    async with application() as good, application() as bad:
        group = group_of(good, bad)
        bad.fails = True
        await failing(group, 2)
        requests(good, bad)
        for _ in range(6):
            await get(group)
        assert requests(good, bad) == [6, 0]
        await until(lambda: group.pools[1].health.usable(asyncio.get_running_loop().time()))
        bad.fails = False
        bad.go_on.clear()
        tries = [asyncio.ensure_future(get(group)) for _ in range(6)]
        await until(lambda: sum(task.done() for task in tries) == 5)
        assert requests(good, bad) == [5, 1]  # until that one is decided, nobody follows
        bad.go_on.set()
        await asyncio.gather(*tries)
        for _ in range(6):
            await get(group)
        assert requests(good, bad) == [3, 3]
        group.close()


async def test_one_failure_among_answers_ejects_nobody() -> None:
    async with application() as one, application() as other:
        group = group_of(one, other)
        for _ in range(3):
            one.fails = True
            await failing(group, 1)
            one.fails = False
            for _ in range(4):
                await get(group)
        requests(one, other)
        for _ in range(4):
            await get(group)
        assert requests(one, other) == [2, 2]
        group.close()


async def test_a_single_server_is_used_however_often_it_fails() -> None:
    async with application() as one:
        group = group_of(one)
        one.fails = True
        await failing(group, 5)
        one.fails = False
        assert (await get(group)).status == 200
        group.close()


async def test_when_all_fail_all_are_used() -> None:
    async with application() as one, application() as other:
        group = group_of(one, other)
        one.fails = other.fails = True
        await failing(group, 8)
        assert min(requests(one, other)) > 1
        group.close()


async def test_a_single_server_that_refuses_lets_requests_fail_fast_for_a_moment() -> None:
    async with application() as one:
        group = group_of(one)
        one.stop()
        with pytest.raises(UpstreamError, match="is it running"):
            await get(group)
        await one.start()
        with pytest.raises(UpstreamError, match="just now; it is tried again within 1 s"):
            await get(group)
        group.pools[0].health.failed_at -= 1
        group.changed()
        assert (await get(group)).status == 200
        assert (await get(group)).status == 200
        group.close()


async def test_a_refusing_server_costs_others_nothing_and_is_used_when_it_is_back() -> None:
    async with application() as one, application() as other:
        group = group_of(one, other)
        one.stop()
        for _ in range(4):
            await get(group)
        assert requests(one, other) == [0, 4]
        await one.start()
        await until(lambda: group.pools[0].health.usable(asyncio.get_running_loop().time()))
        for _ in range(4):
            await get(group)
        assert requests(one, other) == [2, 2]
        group.close()


# ── Backups, weights, limits, slow start, probes ─────────────────────────────────────────────


async def test_a_backup_serves_only_while_all_others_are_down() -> None:
    async with application() as one, application() as backup:
        servers = [Server(address=one.address), Server(address=backup.address, backup=True)]
        group = Group("demo", servers, QUICK)
        for _ in range(4):
            await get(group)
        assert requests(one, backup) == [4, 0]
        group.probed(0, False)
        await get(group)
        assert requests(one, backup) == [0, 1]
        group.probed(0, True)
        await get(group)
        assert requests(one, backup) == [1, 0]
        group.close()


async def test_when_every_server_is_down_by_its_probe_all_are_used() -> None:
    async with application() as one, application() as other:
        group = group_of(one, other)
        group.probed(0, False)
        group.probed(1, False)
        for _ in range(4):
            await get(group)
        assert requests(one, other) == [2, 2]
        group.close()


async def test_requests_follow_the_weights() -> None:
    async with application() as one, application() as other:
        servers = [Server(address=one.address, weight=3), Server(address=other.address)]
        group = Group("demo", servers, QUICK)
        for _ in range(8):
            await get(group)
        assert requests(one, other) == [6, 2]
        group.close()


async def test_a_server_that_is_full_leaves_its_turn_to_others() -> None:
    async with application() as one, application() as other:
        servers = [Server(address=one.address, max_connections=1), Server(address=other.address)]
        group = Group("demo", servers, QUICK)
        one.go_on.clear()
        other.go_on.clear()
        answers = [asyncio.ensure_future(get(group)) for _ in range(6)]
        await until(lambda: one.requests + other.requests == 6)
        assert requests(one, other) == [1, 5]
        one.go_on.set()
        other.go_on.set()
        await asyncio.gather(*answers)
        group.close()


@pytest.mark.parametrize("up_for_s", [0.0, 1000.0])
async def test_a_server_that_came_back_gets_its_share_slowly(up_for_s: float) -> None:
    options = GroupOptions(slow_start_s=100)
    async with application() as one, application() as other:
        group = group_of(one, other, options=options)
        group.probed(0, False)
        group.probed(0, True)
        group.pools[0].health.up_at -= up_for_s
        group.changed()
        for _ in range(22):
            await get(group)
        assert requests(one, other) == ([2, 20] if not up_for_s else [11, 11])
        group.close()


# ── Applications that proxyd starts ──────────────────────────────────────────────────────────


async def test_requests_wait_while_an_application_restarts(tmp_path: Path) -> None:
    patient = replace(MANAGED, ejection=EjectionRules(first_s=1000, longest_s=1000))
    async with application(tmp_path / "s") as one:
        group = group_of(one, options=patient)  # nobody but who knocks finds that it is back
        async with swept(group):
            await get(group)
            one.stop()
            await until(lambda: group.connections == 0)
            waiting = [asyncio.ensure_future(get(group)) for _ in range(20)]
            await until(lambda: group.waiting == 20)
            await one.start()
            answers = await asyncio.gather(*waiting)
            assert {answer.status for answer in answers} == {200}
            assert group.waiting == 0
            assert group.connections <= 4
        assert not knocks(group)


async def test_requests_wait_while_all_processes_restart(tmp_path: Path) -> None:
    async with application(tmp_path / "1") as one, application(tmp_path / "2") as two:
        group = group_of(one, two, options=MANAGED)
        async with swept(group):
            one.stop()
            two.stop()
            waiting = [asyncio.ensure_future(get(group)) for _ in range(20)]
            await until(lambda: group.waiting == 20)
            await two.start()
            answers = await asyncio.gather(*waiting)
            assert {answer.status for answer in answers} == {200}
            await one.start()
            requests(one, two)
            async with asyncio.timeout(5):
                while not one.requests:
                    await get(group)


async def test_a_request_that_waited_in_vain_is_told_why(tmp_path: Path) -> None:
    options = GroupOptions(managed=True, queue_timeout_s=0.2)
    async with application(tmp_path / "s") as one:
        one.stop()
        group = group_of(one, options=options)
        async with swept(group):
            with pytest.raises(OverloadedError, match=r"cannot be reached.*did not change within"):
                await get(group)
            await until(lambda: not knocks(group))


async def test_the_queue_for_a_restart_is_bounded(tmp_path: Path) -> None:
    options = GroupOptions(managed=True, queue=1)
    async with application(tmp_path / "s") as one:
        one.stop()
        group = group_of(one, options=options)
        first = asyncio.ensure_future(get(group))
        await until(lambda: group.waiting == 1)
        with pytest.raises(OverloadedError, match=r"cannot be reached.*; 1 requests wait for it"):
            await get(group)
        first.cancel()
        await asyncio.wait([first])
        await until(lambda: not knocks(group))
        group.close()


async def test_a_client_that_leaves_during_a_restart_is_not_served(tmp_path: Path) -> None:
    async with application(tmp_path / "s") as one:
        one.stop()
        group = group_of(one, options=MANAGED)
        async with swept(group):
            leaving = asyncio.ensure_future(get(group))
            staying = asyncio.ensure_future(get(group))
            await until(lambda: group.waiting == 2)
            leaving.cancel()
            await one.start()
            assert (await staying).status == 200
            assert one.requests == 1


async def test_a_closed_group_stops_knocking(tmp_path: Path) -> None:
    async with application(tmp_path / "s") as one:
        one.stop()
        group = group_of(one, options=MANAGED)
        waiting = asyncio.ensure_future(get(group))
        await until(lambda: group.waiting == 1)
        assert knocks(group)
        group.close()
        await until(lambda: not knocks(group))
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_a_group_without_servers_says_so() -> None:
    with pytest.raises(UpstreamError, match="demo has no servers"):
        await Group("demo", [], MANAGED).acquire()


# ── Another attempt ──────────────────────────────────────────────────────────────────────────


async def test_an_attempt_elsewhere_avoids_the_server_that_failed() -> None:
    async with application() as one, application() as other:
        balance = Balance(kind="hash", source="path")  # which would choose the same one again
        group = group_of(one, other, options=GroupOptions(balance=balance))
        first = await group.acquire(Wish(b"key"))
        wish = group.again(Wish(b"key"), first, NoAnswerError("gone"), b"GET")
        assert wish is not None
        assert (await group.acquire(wish)).owner is not first.owner
        assert group.again(wish, first, NoAnswerError("gone"), b"GET") is None  # once is enough
        group.close()


async def test_a_stale_connection_is_no_failure_of_the_server() -> None:
    async with application() as one:
        group = group_of(one)
        connection = await group.acquire()
        for _ in range(5):
            wish = group.again(None, connection, StaleConnectionError("gone"), b"GET")
            assert wish is not None
            assert not wish.failed
        assert group.again(None, connection, NoAnswerError("gone"), b"GET") is None
        group.close()


async def test_the_next_attempt_leaves_a_dying_process_time_to_close_its_sockets(
    tmp_path: Path,
) -> None:
    """It is asked anew only when the sockets that would have failed it as well are closed."""
    async with application(tmp_path / "app.sock") as dying:
        group = group_of(dying, options=MANAGED)
        wish = group.again(None, await group.acquire(), NoAnswerError("died"), b"GET")
        assert wish is not None
        dying.fails = True
        asked = asyncio.ensure_future(get(group, wish))
        await asyncio.sleep(0)
        dying.stop()
        dying.fails = False
        await dying.start()
        async with swept(group):
            assert (await asked).status == 200
    assert dying.requests == 1


async def test_when_all_have_failed_a_request_the_first_may_try_again() -> None:
    async with application() as one, application() as other:
        group = group_of(one, other)
        wish = Wish()
        wish.failed = {0, 1}
        answer = await ask(await group.acquire(wish))
        assert answer.status == 200
        group.close()
