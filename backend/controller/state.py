"""What every endpoint reaches: the database and the other things made once for each process."""

import threading
from dataclasses import dataclass
from typing import cast

from flask import current_app

from backend.model.database import Database
from backend.model.uploads import Uploads
from backend.settings import Settings


class Feed:
    """Wakes the event streams of this process when somebody posts in it.

    Posts made in another process are found when a wait runs out.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._posts = 0

    def position(self) -> int:
        """Return how many posts were announced so far; to be read before one looks for them."""
        return self._posts

    def announce(self) -> None:
        """Say that there is a new post."""
        with self._changed:
            self._posts += 1
            self._changed.notify_all()

    def wait(self, position: int, timeout_s: float) -> None:
        """Wait until more was announced than at `position`, or until the time has run out."""
        with self._changed:
            self._changed.wait_for(lambda: self._posts != position, timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The parts of one running application."""

    settings: Settings
    database: Database
    uploads: Uploads
    feed: Feed
    streams: threading.BoundedSemaphore
    """One permit for each event stream that may run."""


def state() -> State:
    """Return the state of the current application."""
    return cast("State", current_app.extensions["timeline"])
