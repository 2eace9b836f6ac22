"""A wall clock that jumps under a running daemon: nothing gets older or younger by it.

The clock of this machine stays as it is: `time.time` of the daemon's processes is moved.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.process.running import wait_for
from tests.server.caching import (
    bodies,
    cache_files,
    configuration,
    is_hit,
    on_both,
    origin,
    restarted,
)
from tests.server.checked_load import CheckedLoad, Contents, checked_load
from tests.server.daemon import Daemon, serving
from tests.server.origin import Origin

__all__ = ["origin"]  # a fixture

# Python imports it at the start of every process that finds it.
MOVED = """
import time
from pathlib import Path

_real = time.time
_offset = Path(__file__).with_name("offset")


def _moved():
    return _real() + float(_offset.read_text() or 0)


time.time = _moved
"""
JUMPS_S = (-7200, 7200, -5, 86_400, 0)

Jump = Callable[[float], None]


@pytest.fixture
def jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jump:
    """Return what sets the clock of the daemons to come by so many seconds."""
    (tmp_path / "sitecustomize.py").write_text(MOVED)
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def jump(seconds: float) -> None:
        aside = tmp_path / "new"
        aside.write_text(str(seconds))
        aside.replace(tmp_path / "offset")

    jump(0)
    return jump


@pytest.fixture
def cached(origin: Origin, jump: Jump) -> Iterator[Daemon]:
    origin.on("/for/", Contents())
    with serving(configuration(origin)) as daemon:
        yield daemon


def answered(load: CheckedLoad, times: int) -> bool:
    return load.answers >= times or bool(load.failures)


def expired(origin: Origin, load: CheckedLoad, before: dict[str, int]) -> bool:
    """Whether all of these have been asked for again."""
    asked = all(origin.count(target) > count for target, count in before.items())
    return asked or bool(load.failures)


def test_no_answer_is_used_for_longer_or_shorter(
    cached: Daemon, origin: Origin, jump: Jump
) -> None:
    short = [f"/for/1/300/short{number}" for number in range(4)]
    long = [f"/for/600/300/long{number}" for number in range(4)]
    with checked_load(origin, cached.connect, [*short, *long]) as load:
        wait_for(partial(answered, load, 100), "answers")
        for seconds in JUMPS_S:
            jump(seconds)
            before = {target: origin.count(target) for target in short}
            wait_for(partial(expired, origin, load, before), "the end of what is short-lived")
    assert load.failures == []
    assert load.broken == 0
    assert [origin.count(target) for target in long] == [1] * len(long)
    assert cached.stop() == 0
    cached.check_clean()


@pytest.mark.parametrize("seconds", [-86_400, 86_400])
def test_what_is_stored_is_as_old_as_it_is_after_a_restart(
    cached: Daemon, origin: Origin, jump: Jump, seconds: int
) -> None:
    target = f"/for/600/300/restart{seconds}"
    body = cached.ask(target).body
    wait_for(lambda: cache_files(cached), "the file")
    assert cached.stop() == 0
    jump(seconds)
    again = restarted(cached)
    date = again.ask("/date").get("date")
    answers = on_both(again, target)
    assert bodies(answers) == {body}
    assert all(map(is_hit, answers))
    assert all(int(answer.get("age") or 0) < 300 for answer in answers)
    assert origin.count(target) == 1
    assert date is not None
    assert date != again.ask(target).get("date")  # it has lived in another day's clock
    assert again.stop() == 0
    again.check_clean()
