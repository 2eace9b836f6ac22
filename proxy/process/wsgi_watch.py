"""In the application's process: notices requests that hang, and says where they do.

Loaded by serve_wsgi.py, and like that imports nothing of proxyd. A request hangs when the
application has produced nothing of its answer for as long as proxyd waits for it (`read_timeout`):
its client has a 504 by then, and the thread that works on it is lost to others. The stack of every
thread then goes to standard error, which is proxyd's log, and how many hang to proxyd itself.

The thread that looks is a real one with every server: gevent's greenlets may all stand still.
"""

import os
import sys
import traceback
from _thread import get_ident, start_new_thread
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import monotonic, sleep
from typing import Any, Final

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

# How exact the moment is at which a request is found to hang, and how often stacks are written
# at most: a hundred that hang for one reason need not tell it a hundred times.
LOOK_S: Final = 0.25
DUMP_S: Final = 5.0

# Written by proxyd for a route with a `read_timeout` of its own, and taken from nobody else.
TIMEOUT_KEY: Final = "HTTP_X_PROXYD_READ_TIMEOUT"


class Running:
    """A request in progress; `since` is None while it is not the application's turn.

    `greenlet` is the one that works on it, where gevent does.
    """

    __slots__ = ("began_at", "greenlet", "hangs", "name", "since", "thread", "timeout_s")

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.thread = get_ident()
        greenlets = sys.modules.get("greenlet") if "gevent" in sys.modules else None
        self.greenlet: Any = None if greenlets is None else greenlets.getcurrent()
        self.began_at: float = monotonic()
        self.since: float | None = self.began_at
        self.hangs = False


class Watch:
    """All requests in progress in this process. `report` is a descriptor to write the count to."""

    def __init__(self, timeout_s: float, report: int | None = None) -> None:
        self._timeout_s = timeout_s
        self._report = report
        self._running: dict[int, Running] = {}
        self._hanging = 0
        self._dumped_at = -DUMP_S

    def start(self) -> None:
        """Begin to look, in a thread that ends with the process."""
        start_new_thread(self._keep_looking, ())

    def over(self, application: Application) -> Application:
        """Return the application, whose requests are watched."""

        def watched(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            given = environ.pop(TIMEOUT_KEY, None)
            name = f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}"
            request = Running(name, float(given) if given else self._timeout_s)
            self._running[id(request)] = request
            content: Iterable[bytes] = ()
            try:
                content = application(environ, start_response)
            finally:
                if not _goes_on(content, environ):
                    self.ended(request)
            if id(request) not in self._running:
                return content
            request.since = None
            return Followed(content, request, self)

        return watched

    def ended(self, request: Running) -> None:
        """Forget a request."""
        self._running.pop(id(request), None)
        if request.hangs:
            lasted_s = monotonic() - request.began_at
            _say(f"{request.name} has come to an end after {lasted_s:.1f} s")

    def _keep_looking(self) -> None:
        while True:
            sleep(LOOK_S)
            self.look(monotonic())

    def look(self, now: float) -> None:
        """See who hangs; tell of those who do so newly, and of the number when it has changed."""
        # A copy, made in one step: other threads come and go.
        running = list(self._running.values())
        hanging = 0
        newly: list[Running] = []
        for request in running:
            since = request.since
            if since is None or now - since < request.timeout_s:
                continue
            hanging += 1
            if not request.hangs:
                request.hangs = True
                newly.append(request)
        for request in newly:
            _say(f"{request.name} has produced nothing for {request.timeout_s:g} s and hangs")
        if newly and now - self._dumped_at >= DUMP_S:
            self._dumped_at = now
            _say(stacks(running))
        if hanging != self._hanging:
            self._hanging = hanging
            if self._report is not None:
                with suppress(OSError):  # nobody listens any more
                    os.write(self._report, b"%d\n" % hanging)


class Followed:
    """The content of an answer; while it is asked for the next piece, it is its turn."""

    __slots__ = ("_content", "_next", "_request", "_watch")

    def __init__(self, content: Iterable[bytes], request: Running, watch: Watch) -> None:
        self._content = content
        self._next = iter(content).__next__
        self._request = request
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        request = self._request
        request.since = monotonic()
        try:
            return self._next()
        finally:
            request.since = None

    def close(self) -> None:
        """Close the content, as WSGI servers ask at its end."""
        self._request.since = monotonic()
        try:
            if hasattr(self._content, "close"):
                self._content.close()
        finally:
            self._watch.ended(self._request)


def _goes_on(content: Iterable[bytes], environ: Environ) -> bool:
    """Whether more of the application runs while its content is sent.

    Not for a list, from which servers work out the length, nor for a file that they send.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type) and isinstance(content, wrapper):
        return False
    return not isinstance(content, list | tuple | bytes)


def stacks(running: Iterable[Running]) -> str:
    """Return the stack of every thread, with the request that it works on; greenlets as well."""
    at_work = {request.thread: request.name for request in running if request.greenlet is None}
    parts = []
    for thread, frame in sys._current_frames().items():
        if thread == get_ident():
            continue
        work = f" at work on {at_work[thread]}" if thread in at_work else ""
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"Thread {thread:#x}{work} (most recent call last):\n{stack}")
    for request in running:
        # A greenlet that runs right now has no frame here: it is the thread's.
        if request.greenlet is not None and request.greenlet.gr_frame is not None:
            stack = "".join(traceback.format_stack(request.greenlet.gr_frame))
            parts.append(f"Greenlet at work on {request.name} (most recent call last):\n{stack}")
    return "\n".join(parts)


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.rstrip("\n").encode("utf-8", "backslashreplace") + b"\n")
