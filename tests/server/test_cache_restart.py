"""What is left of a cache when its processes end, in whatever way: all that is right."""

import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from itertools import product

import pytest

from tests.process.running import alive, wait_for
from tests.server.caching import (
    bodies,
    cache_files,
    children,
    configuration,
    is_hit,
    on_both,
    origin,
    restarted,
)
from tests.server.checked_load import CheckedLoad, Contents, checked_load
from tests.server.daemon import Daemon, serving
from tests.server.origin import Answer, Asked, Origin
from tests.server.stress import command
from tests.server.test_reload import only_one_generation
from tests.server.wire import connect

__all__ = ["origin"]  # a fixture

# Content of the first two is read into memory, the other streams to the disk and from there.
SIZES = (300, 40_000, 300_000)
WORKER = "proxy.process.worker"
CACHE = 'memory_object = "64KiB"'


@pytest.fixture
def cached(origin: Origin) -> Iterator[Daemon]:
    origin.on("/for/", Contents())
    with serving(configuration(origin, cache=CACHE)) as daemon:
        yield daemon


def targets(kind: str, seconds: tuple[int, ...] = (600,)) -> list[str]:
    return [
        f"/for/{lifetime}/{size}/{kind}{number}"
        for lifetime, size, number in product(seconds, SIZES, range(3))
    ]


def stored(daemon: Daemon, wanted: list[str]) -> dict[str, bytes]:
    """Ask for all of these, and wait until they are on the disk."""
    held = len(cache_files(daemon))
    found = {target: daemon.ask(target).body for target in wanted}
    wait_for(lambda: len(cache_files(daemon)) == held + len(wanted), "the files")
    return found


def check_warm(daemon: Daemon, origin: Origin, found: dict[str, bytes]) -> None:
    """Assert that all is answered by both workers, and that nobody asked the origin again."""
    for target, body in found.items():
        answers = on_both(daemon, target)
        assert bodies(answers) == {body}
        assert all(is_hit(answer) for answer in answers)
        assert origin.count(target) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_the_cache_is_warm_after_a_restart(
    cached: Daemon, origin: Origin, number: signal.Signals
) -> None:
    wanted = targets(number.name)
    # The last of them is under way to the disk when the daemon is told to end.
    found = {target: cached.ask(target).body for target in wanted}
    assert cached.stop(number) == 0
    cached.check_clean()
    again = restarted(cached)
    check_warm(again, origin, found)
    assert again.stop() == 0
    again.check_clean()


def test_the_cache_is_warm_after_the_daemon_was_killed(cached: Daemon, origin: Origin) -> None:
    found = stored(cached, targets("killed"))
    kill_all(cached)
    again = restarted(cached)
    check_warm(again, origin, found)
    assert again.stop() == 0
    again.check_clean()


def test_the_cache_is_warm_after_a_reload(cached: Daemon, origin: Origin) -> None:
    found = stored(cached, targets("reload"))
    assert command(cached, "reload").returncode == 0
    wait_for(lambda: only_one_generation(cached), "the first generation to end")
    check_warm(cached, origin, found)


def test_variants_are_told_apart_after_a_restart(cached: Daemon, origin: Origin) -> None:
    def greet(asked: Asked) -> Answer:
        fields = ("Cache-Control: public, max-age=600", "Vary: Accept-Language")
        return Answer(asked.fields["accept-language"].encode(), fields)

    origin.on("/greeting", greet)
    languages = ["de", "fr", "it"]
    for language in languages:
        cached.ask("/greeting", f"Accept-Language: {language}")
    assert cached.stop() == 0
    again = restarted(cached)
    for language in languages:
        answer = again.ask("/greeting", f"Accept-Language: {language}")
        assert answer.body == language.encode()
        assert is_hit(answer)
    assert origin.count("/greeting") == len(languages)
    assert again.stop() == 0


def kill_all(daemon: Daemon) -> None:
    """End all processes of a daemon without a warning."""
    everybody = [daemon.process.pid, *children(daemon)]
    for pid in everybody:
        os.kill(pid, signal.SIGKILL)
    daemon.process.wait()
    wait_for(lambda: not any(map(alive, everybody)), "the end of every process")


def answered(load: CheckedLoad, times: int) -> bool:
    return load.answers >= times or bool(load.failures)


def replaced(daemon: Daemon, pid: int) -> bool:
    running = children(daemon, WORKER)
    return len(running) == 2 and pid not in running


def test_a_worker_that_is_killed_under_load_costs_no_right_answer(
    cached: Daemon, origin: Origin
) -> None:
    wanted = targets("workers", (1, 600))
    chosen = random.Random(1)
    with checked_load(origin, cached.connect, wanted) as load:
        for _ in range(4):
            wait_for(partial(answered, load, load.answers + 150), "answers")
            pid = chosen.choice(children(cached, WORKER))
            os.kill(pid, signal.SIGKILL)
            wait_for(partial(replaced, cached, pid), "another worker in its place")
            load.purge(cached, chosen.choice(wanted))
        wait_for(partial(answered, load, load.answers + 150), "answers")
    assert load.failures == []
    assert load.hits > 100
    assert cached.stop() == 0
    cached.check_clean()


def test_a_daemon_that_is_killed_under_load_again_and_again_keeps_what_is_right(
    cached: Daemon, origin: Origin
) -> None:
    """What was purged before is not back after it."""
    running = cached
    wanted = targets("daemons", (1, 600))
    chosen = random.Random(2)
    with checked_load(origin, lambda: connect(running.address), wanted) as load:
        for _ in range(4):
            wait_for(partial(answered, load, load.answers + 150), "answers")
            load.purge(running, chosen.choice(wanted))
            kill_all(running)
            running = restarted(running)
        wait_for(partial(answered, load, load.answers + 300), "answers")
    assert load.failures == []
    assert load.hits > 100
    assert running.stop() == 0
    running.check_clean()
