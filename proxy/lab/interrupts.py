"""Ctrl-C, SIGTERM and SIGHUP: none of them is lost, and none leaves processes over."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ends_orderly() -> Iterator[Callable[[], None]]:
    """Let each of them end the program by SystemExit, with every stack taken down on the way.

    Call what this yields now and then: an exception out of a signal is lost where it comes in the
    middle of a destructor, and is raised then.
    """
    came: list[int] = []

    def end(number: int, _: object) -> NoReturn:
        came.append(number)
        sys.exit(128 + number)

    def check() -> None:
        if came:
            sys.exit(128 + came[0])

    kept = [(number, signal.signal(number, end)) for number in NUMBERS]
    try:
        yield check
        check()
    finally:
        for number, before in kept:
            signal.signal(number, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold all of them off until the end of this."""
    came: list[int] = []
    kept = [
        (number, signal.signal(number, lambda number, _: came.append(number))) for number in NUMBERS
    ]
    try:
        yield
    finally:
        for number, before in kept:
            signal.signal(number, before)
        if came:
            signal.raise_signal(came[0])
