"""Every asynchronous test runs on the loop that proxyd runs on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("proxyd", deadline=None)
settings.load_profile("proxyd")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
