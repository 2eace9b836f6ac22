"""What the tests of forwarding share."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.pipeline.upstreams import Client, Server, close


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    path = Path(mkdtemp(prefix="pd-", dir="/tmp")) / "s"
    running = Server(path)
    listening = await asyncio.start_unix_server(running.serve, str(path))
    yield running
    listening.close()
    for task in running.tasks:
        assert task is not None
        task.cancel()
        await asyncio.wait((task,))
    path.unlink(missing_ok=True)
    path.parent.rmdir()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = Client(server)
    yield client
    await close(client)
