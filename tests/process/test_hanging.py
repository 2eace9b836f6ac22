"""The pipe on which an application's process tells how many of its requests hang."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from proxy.process.hanging import Hanging


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    made = Hanging()
    yield made
    made.close()


async def test_the_number_is_the_last_that_was_told(hanging: Hanging) -> None:
    waiting = asyncio.ensure_future(hanging.at_least(3))
    os.write(hanging.descriptor, b"1\n2\n")
    await asyncio.sleep(0)
    assert not waiting.done()
    os.write(hanging.descriptor, b"4\n")
    assert await asyncio.wait_for(waiting, 5) == 4


@pytest.mark.parametrize("nonsense", [b"\n", b"many\n", b"-3\n", b"9" * 50])
async def test_nonsense_is_not_heard(hanging: Hanging, nonsense: bytes) -> None:
    os.write(hanging.descriptor, nonsense)
    await asyncio.sleep(0)
    os.write(hanging.descriptor, b"\n1\n")
    assert await asyncio.wait_for(hanging.at_least(1), 5) == 1


async def test_a_process_that_has_ended_tells_nothing(hanging: Hanging) -> None:
    hanging.started()
    waiting = asyncio.ensure_future(hanging.at_least(1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    hanging.close()
