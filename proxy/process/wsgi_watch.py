"""In the application's process: notices requests that hang, and says where they do.

Loaded by serve_wsgi.py, and like that imports nothing of proxyd. A request hangs when the
application has produced nothing of its answer for as long as proxyd waits for it (`read_timeout`):
its client has a 504 by then, and the thread that works on it is lost to others. So does one that
has worked for longer than all of it may take (`total_timeout`, where there is one; not for event
streams). The stack of every thread then goes to standard error, which is proxyd's log, and how many
hang to proxyd itself.

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

# Written by proxyd for a route with timeouts of its own, and taken from nobody else.
TIMEOUT_KEY: Final = "HTTP_X_PROXYD_READ_TIMEOUT"
TOTAL_KEY: Final = "HTTP_X_PROXYD_TOTAL_TIMEOUT"


class Running:
    """A request in progress; `since` is None while it is not the application's turn.

    `total_s` is what all of the application's turns may take, 0 for ever, and `spent_s` what those
    before have. `greenlet` is the one that works on it, where gevent does.
    """

    __slots__ = (
        "began_at",
        "greenlet",
        "hangs",
        "name",
        "since",
        "spent_s",
        "thread",
        "timeout_s",
        "total_s",
    )

    def __init__(self, name: str, timeout_s: float, total_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.total_s = total_s
        self.spent_s = 0.0
        self.thread = get_ident()
        greenlets = sys.modules.get("greenlet") if "gevent" in sys.modules else None
        self.greenlet: Any = None if greenlets is None else greenlets.getcurrent()
        self.began_at: float = monotonic()
        self.since: float | None = self.began_at
        self.hangs = False

    def rest(self) -> None:
        """End a turn of the application: now it is the server's."""
        if self.since is not None:
            self.spent_s += monotonic() - self.since
            self.since = None

    def complaint(self, now: float) -> str:
        """Say what is wrong with it, "" while nothing is."""
        since = self.since  # once: the request's own thread may change it
        if since is None:
            return ""
        turn_s = now - since
        if turn_s >= self.timeout_s:
            return f"has produced nothing for {self.timeout_s:g} s and hangs"
        # A look before proxyd gives up: who has been cut off soon has no stack any more.
        if self.total_s and self.spent_s + turn_s >= self.total_s - LOOK_S:
            return f"is not done after {self.spent_s + turn_s:.1f} s (total_timeout)"
        return ""


class Watch:
    """All requests in progress in this process. `report` is a descriptor to write the count to."""

    def __init__(
        self, timeout_s: float, report: int | None = None, *, total_timeout_s: float = 0
    ) -> None:
        self._timeout_s = timeout_s
        self._total_s = total_timeout_s
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
            timeout_s = float(environ.pop(TIMEOUT_KEY, self._timeout_s))
            total_s = float(environ.pop(TOTAL_KEY, self._total_s))
            name = f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}"
            request = Running(name, timeout_s, total_s)
            if total_s:
                start_response = unless_events(start_response, request)
            self._running[id(request)] = request
            content: Iterable[bytes] = ()
            try:
                content = application(environ, start_response)
            finally:
                if not _goes_on(content, environ):
                    self.ended(request)
            if id(request) not in self._running:
                return content
            request.rest()
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
        newly = False
        for request in running:
            complaint = request.complaint(now)
            if not complaint:
                continue
            hanging += 1
            if not request.hangs:
                request.hangs = newly = True
                _say(f"{request.name} {complaint}")
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
            request.rest()

    def close(self) -> None:
        """Close the content, as WSGI servers ask at its end."""
        self._request.since = monotonic()
        try:
            if hasattr(self._content, "close"):
                self._content.close()
        finally:
            self._watch.ended(self._request)


def unless_events(start_response: Callable[..., Any], request: Running) -> Callable[..., Any]:
    """Return the same function, by which an event stream gets all the time that it wants."""

    def started(status: str, headers: list[tuple[str, str]], *more: Any, **named: Any) -> Any:
        kinds = [value.lower() for name, value in headers if name.lower() == "content-type"]
        if any(kind.startswith("text/event-stream") for kind in kinds):
            request.total_s = 0
        return start_response(status, headers, *more, **named)

    return started


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
