"""Steps run in place until one waits; whatever is raised becomes a step, and ends in the log."""

import asyncio

import pytest

from proxy.errors import ClientGoneError, NotFoundError
from proxy.message import Response
from proxy.pipeline.engine import run
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.respond import respond
from tests.pipeline.asking import Asking
from tests.pipeline.bodies import until


def answer(exchange: Exchange) -> Step:
    exchange.response = Response(200, [], b"")
    return respond


def waiting(*turns: asyncio.Event, error: Exception | None = None) -> Step:
    """Wait for each event in turn, then answer or fail."""

    def step(exchange: Exchange) -> Wait:
        async def work() -> Step:
            for turn in turns[:1]:
                await turn.wait()
            if len(turns) > 1:
                return waiting(*turns[1:], error=error)
            if error is not None:
                raise error
            return answer

        return Wait(work())

    return step


def raising(error: Exception) -> Step:
    def step(exchange: Exchange) -> Step:
        raise error

    return step


def test_steps_that_do_not_wait_need_no_event_loop() -> None:
    asking = Asking()
    run(asking.exchange, answer)
    assert asking.log.lines == [(b"/", 200)]
    assert asking.exchange.task is None


async def test_steps_that_wait_share_one_task() -> None:
    asking = Asking()
    first, second = asyncio.Event(), asyncio.Event()
    run(asking.exchange, waiting(first, second))
    task = asking.exchange.task
    assert isinstance(task, asyncio.Task)
    first.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    second.set()
    await task
    assert asking.exchange.task is task
    assert asking.log.lines == [(b"/", 200)]


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFoundError("x"), 404), (ZeroDivisionError(), 500), (ClientGoneError("x"), 499)],
)
@pytest.mark.parametrize("waits", [True, False])
async def test_an_error_becomes_an_answer(error: Exception, status: int, waits: bool) -> None:
    asking = Asking()
    go_on = asyncio.Event()
    go_on.set()
    run(asking.exchange, waiting(go_on, error=error) if waits else raising(error))
    await until(lambda: asking.log.lines)
    assert asking.log.lines == [(b"/", status)]
    assert asking.sink.done == 1


async def test_an_error_in_a_step_behind_a_wait_becomes_an_answer_too() -> None:
    asking = Asking()

    def step(exchange: Exchange) -> Wait:
        async def work() -> Step:
            return raising(NotFoundError("x"))

        return Wait(work())

    run(asking.exchange, step)
    await until(lambda: asking.log.lines)
    assert asking.log.lines == [(b"/", 404)]


async def test_an_exchange_that_is_cancelled_is_logged_as_left() -> None:
    asking = Asking()
    run(asking.exchange, waiting(asyncio.Event()))
    task = asking.exchange.task
    assert isinstance(task, asyncio.Task)
    await asyncio.sleep(0)
    task.cancel()
    await task
    assert asking.log.lines == [(b"/", 499)]


def test_an_answer_that_cannot_be_sent_is_not_tried_for_ever() -> None:
    asking = Asking()
    asking.sink.failure = ClientGoneError("left")
    run(asking.exchange, answer)
    assert asking.log.lines == [(b"/", 499)]


def test_there_is_nothing_behind_the_last_step() -> None:
    class Full:
        def add(self, *_: object) -> None:
            raise OSError("disk full")

    asking = Asking()
    asking.site.access_log = Full()  # type: ignore[assignment]
    with pytest.raises(OSError, match="disk full"):
        run(asking.exchange, answer)
    assert asking.sink.done == 0


def test_there_may_be_no_step_at_all() -> None:
    asking = Asking()
    run(asking.exchange, None)
    assert asking.sink.done == 0
