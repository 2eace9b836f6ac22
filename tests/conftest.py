"""Every asynchronous test runs on the loop that proxyd runs on."""

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

# Tests run as root, too, and most daemons in them have no [server] user.
os.environ.setdefault("PROXYD_ALLOW_ROOT", "1")

# A busy machine is no failure.
settings.register_profile("proxyd", deadline=None)
# For the other versions of Python (.ci/run): what is looked for was found with the first.
settings.register_profile("few", deadline=None, max_examples=20)
settings.load_profile("proxyd")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
