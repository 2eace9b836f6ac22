"""A process of an application that is replaced: requests under way stay, the next go elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.upstream.address import UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Accept connections on a unix socket, and say nothing; the list has what is connected."""
    connected: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        await reader.read()
        connected.remove(writer)
        writer.close()

    async with await asyncio.start_unix_server(accept, path):
        yield connected


def group_at(path: Path, max_connections: int = 8) -> Group:
    options = GroupOptions(managed=True, max_connections=max_connections)
    return Group("app", [UnixAddress(path)], options)


async def test_idle_connections_are_closed_and_new_ones_go_to_the_successor(tmp_path: Path) -> None:
    left = asyncio.Event()
    async with listening(tmp_path / "a") as former, listening(tmp_path / "b") as successor:
        group = group_at(tmp_path / "a")
        (await group.acquire()).release()
        assert group.idle == 1
        group.move(0, UnixAddress(tmp_path / "b"), left.set)
        assert left.is_set()
        assert (group.idle, group.connections) == (0, 0)
        connection = await group.acquire()
        async with asyncio.timeout(20):
            while former or not successor:  # noqa: ASYNC110 - the other end's doing
                await asyncio.sleep(0.01)
        connection.close()
        group.close()


async def test_a_busy_connection_stays_and_its_end_is_told(tmp_path: Path) -> None:
    left = asyncio.Event()
    async with listening(tmp_path / "a"), listening(tmp_path / "b"):
        group = group_at(tmp_path / "a", max_connections=1)
        busy = await group.acquire()
        group.move(0, UnixAddress(tmp_path / "b"), left.set)
        assert not left.is_set()
        other = await group.acquire()  # the former's does not count any more
        assert group.connections == 1
        busy.release()
        assert left.is_set()
        assert busy.closed
        assert group.connections == 1
        other.close()
        group.close()


async def test_who_waits_for_a_process_that_is_gone_gets_the_successor(tmp_path: Path) -> None:
    async with listening(tmp_path / "b"):
        group = group_at(tmp_path / "a")
        waiting = asyncio.create_task(group.acquire())
        async with asyncio.timeout(20):
            while not group.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        group.move(0, UnixAddress(tmp_path / "b"), lambda: None)
        async with asyncio.timeout(20):
            connection = await waiting
        connection.close()
        group.close()


async def test_a_connection_that_was_opened_while_it_moved_is_not_used(tmp_path: Path) -> None:
    async with listening(tmp_path / "a"), listening(tmp_path / "b") as successor:
        group = group_at(tmp_path / "a")
        opening = asyncio.create_task(group.acquire())
        await asyncio.sleep(0)
        group.move(0, UnixAddress(tmp_path / "b"), lambda: None)
        connection = await opening
        async with asyncio.timeout(20):
            while not successor:  # noqa: ASYNC110 - the other end's doing
                await asyncio.sleep(0.01)
        assert group.connections == 1
        connection.close()
        group.close()


async def test_a_request_that_is_over_is_counted_once(tmp_path: Path) -> None:
    async with listening(tmp_path / "a"):
        group = group_at(tmp_path / "a")
        (await group.acquire()).release()
        (await group.acquire()).close()
        assert group.pools[0].served == 2
        group.close()


@pytest.mark.parametrize("up", [True, False])
async def test_only_what_is_ready_is_usable(tmp_path: Path, up: bool) -> None:
    group = group_at(tmp_path / "a")
    group.probed(0, up)
    assert group.pools[0].health.usable(asyncio.get_running_loop().time()) is up
