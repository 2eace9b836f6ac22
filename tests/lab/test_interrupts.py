"""Ctrl-C, SIGTERM and SIGHUP."""

import signal

import pytest

from proxy.lab.interrupts import NUMBERS, ends_orderly, uninterrupted

pytestmark = pytest.mark.parametrize("number", NUMBERS)


def test_each_ends_the_program_by_an_exception(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, ends_orderly():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


class Interrupted:
    """Whose destructor a signal comes in the middle of."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def lose(number: signal.Signals) -> None:
    lost = Interrupted(number)
    del lost


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_a_destructor_has_swallowed_ends_it_at_the_next_step(
    number: signal.Signals,
) -> None:
    steps = []

    def run() -> None:
        with ends_orderly() as check:
            for step in range(3):
                check()
                steps.append(step)
                lose(number)

    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 128 + number
    assert steps == [0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_a_destructor_has_swallowed_ends_it_at_the_latest_at_the_end(
    number: signal.Signals,
) -> None:
    with pytest.raises(SystemExit), ends_orderly():
        lose(number)


def test_what_must_not_be_interrupted_comes_to_its_end_first(number: signal.Signals) -> None:
    done = []

    def run() -> None:
        with ends_orderly(), uninterrupted():
            signal.raise_signal(number)
            done.append(number)

    with pytest.raises(SystemExit):
        run()
    assert done == [number]
