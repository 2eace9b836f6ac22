"""Runs the steps of an exchange: in place while they have their answers, in one task when they wait.

The only place of the pipeline that catches errors.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from proxy.errors import ClientGoneError, HttpError
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.fail import fail
from proxy.pipeline.finish import finish

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

log = logging.getLogger("proxyd.pipeline")


def run(exchange: Exchange, step: Step | None) -> None:
    """Take `exchange` from `step` to its end, or to its first wait."""
    while step is not None:
        result = advance(exchange, step)
        if type(result) is Wait:
            exchange.task = asyncio.get_running_loop().create_task(carry_on(exchange, result.work))
            return
        step = result  # type: ignore[assignment]


async def carry_on(exchange: Exchange, work: "Coroutine[Any, Any, Step | None]") -> None:
    """Await `work` and go on with the same steps."""
    while True:
        try:
            step = await work
        except asyncio.CancelledError:
            step = leave(exchange)
        except Exception as error:  # noqa: BLE001
            step = on_error(exchange, error)
        while step is not None:
            result = advance(exchange, step)
            if type(result) is Wait:
                work = result.work
                break
            step = result  # type: ignore[assignment]
        else:
            return


def advance(exchange: Exchange, step: Step) -> "Step | Wait | None":
    """Take one step; whatever it raises becomes the next one."""
    try:
        return step(exchange)
    except Exception as error:  # noqa: BLE001
        return on_error(exchange, error)
