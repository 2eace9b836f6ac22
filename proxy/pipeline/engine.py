"""Runs the steps of an exchange: in place while they can, in one task when they wait.

The only place of the pipeline that catches errors.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from proxy.errors import ClientGoneError
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.fail import step_after
from proxy.pipeline.finish import finish


def run(exchange: Exchange, step: Step | None) -> None:
    """Take `exchange` from `step` to its end, or to its first wait."""
    work = advance(exchange, step)
    if work is not None:
        exchange.task = asyncio.get_running_loop().create_task(carry_on(exchange, work))


def advance(exchange: Exchange, step: Step | None) -> Coroutine[Any, Any, Step | None] | None:
    """Take steps until the end (None) or a wait (what to await). An error becomes a step."""
    while step is not None:
        try:
            result = step(exchange)
        except Exception as error:
            if step is finish:
                raise  # there is nothing behind the end; the loop logs it
            step = step_after(exchange, error)
        else:
            if type(result) is Wait:
                return result.work
            step = result  # type: ignore[assignment]
    return None


async def carry_on(exchange: Exchange, work: Coroutine[Any, Any, Step | None]) -> None:
    """Await `work`, and go on with the same steps."""
    more: Coroutine[Any, Any, Step | None] | None = work
    while more is not None:
        try:
            step = await more
        except asyncio.CancelledError:
            # Only the connection cancels, when its client has left.
            step = step_after(exchange, ClientGoneError("cancelled"))
        except Exception as error:
            step = step_after(exchange, error)
        more = advance(exchange, step)
