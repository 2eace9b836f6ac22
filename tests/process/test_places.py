"""Where processes of applications are: what workers are told, and what they say."""

import asyncio
import json
from pathlib import Path

import pytest

from proxy.process.places import Places
from proxy.process.pulse import APP, Pulse
from proxy.upstream.address import TcpAddress, UnixAddress


class Worker:
    """One that remembers what it is told, and says what the test wants."""

    def __init__(self, places: Places) -> None:
        self.told: list[dict[str, object]] = []
        self.pulse = Pulse("worker")
        self.member = places.join(self.hear, self.pulse)

    def hear(self, line: bytes) -> None:
        assert line.startswith(APP)
        assert line.endswith(b"\n")
        self.told.append(json.loads(line.removeprefix(APP)))

    def say(self, text: bytes) -> None:
        self.pulse.on_app(text)


async def test_every_worker_is_told_where_a_process_is_also_one_that_comes_later() -> None:
    places = Places()
    first = Worker(places)
    places.move("shop", 0, 7, UnixAddress(Path("/run/shop")))
    places.move("shop", 1, 8, TcpAddress("127.0.0.1", 4000))
    second = Worker(places)
    assert first.told == second.told
    assert first.told == [
        {"app": "shop", "index": 0, "serial": 7, "address": "unix:/run/shop", "up": True},
        {"app": "shop", "index": 1, "serial": 8, "address": "127.0.0.1:4000", "up": True},
    ]


async def test_a_former_process_is_left_when_every_worker_has_said_so_or_ended() -> None:
    places = Places()
    first, second, third = Worker(places), Worker(places), Worker(places)
    places.move("shop", 0, 7, UnixAddress(Path("/run/7")))
    places.move("shop", 0, 9, UnixAddress(Path("/run/9")))
    Worker(places)  # it was never told of the former
    leaving = asyncio.create_task(places.left(7, 20))
    await asyncio.sleep(0)
    first.say(b"left 7")
    second.say(b"left 9")
    places.quit(third.member)
    await asyncio.sleep(0)
    assert not leaving.done()
    second.say(b"left 7")
    await leaving


async def test_what_is_never_left_is_not_waited_for_longer_than_the_limit() -> None:
    places = Places()
    Worker(places)
    places.move("shop", 0, 7, UnixAddress(Path("/run/7")))
    with pytest.raises(TimeoutError):
        await places.left(7, 0.01)


async def test_the_requests_of_all_workers_are_added_up() -> None:
    places = Places()
    first, second = Worker(places), Worker(places)
    places.move("shop", 0, 7, UnixAddress(Path("/run/7")))
    first.say(b"served 7 3")
    second.say(b"served 7 4")
    second.say(b"served 6 100")
    assert (places.served(7), places.served(6)) == (7, 0)
    places.forget(7)
    assert places.served(7) == 0


async def test_only_the_present_process_can_be_up_or_down() -> None:
    places = Places()
    worker = Worker(places)
    places.move("shop", 0, 7, UnixAddress(Path("/run/7")))
    places.set_up("shop", 0, 6, False)
    places.set_up("shop", 0, 7, False)
    assert [line["up"] for line in worker.told] == [True, False]
    assert [line["up"] for line in Worker(places).told] == [False]
