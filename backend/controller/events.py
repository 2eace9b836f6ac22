"""Server-sent events: the newest posts as they come, over one answer that does not end.

Every stream holds a thread of the WSGI server for as long as it lasts. So there are at most
`Settings.max_streams` of them (4, of Waitress's 8 threads); the next client gets a 503. A stream
ends when its client is gone, and after some minutes by itself: EventSource connects again, says
what it saw last, and misses nothing.
"""

import json
import time
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, request
from werkzeug.exceptions import ServiceUnavailable

from backend.controller.api import post_values
from backend.controller.arguments import parse_id, post_id
from backend.controller.caching import personal
from backend.controller.state import State, state
from backend.model import posts

blueprint = Blueprint("events", __name__)

_POLL_S = 1.0  # how late a post from another process may be; also how soon a gone client is seen
_HEARTBEAT_S = 5.0  # proxies commonly give up on a silent answer after 30 to 60 s
_STREAM_S = 300.0  # then the client connects again, and threads go round
_RETRY_MS = 2_000
_RETRY_AFTER_S = 5


@blueprint.get("/events")
def events() -> Response:
    """Posts above Last-Event-ID or ?after=, without them those from now on."""
    current = state()
    after = _start()
    with current.database.read() as session:
        newest_id = posts.newest_id(session)
    # An id from the future is one from a database that is gone; its client waits no longer.
    after = newest_id if after is None else min(after, newest_id)
    if not current.streams.acquire(blocking=False):
        raise ServiceUnavailable(
            f"All {current.settings.max_streams} event streams of this process are taken: each "
            "holds a thread, and the others have pages to serve. Try again in a while.",
            retry_after=_RETRY_AFTER_S,
        )
    gone = request.environ.get("waitress.client_disconnected", _unknown)
    response = Response(_stream(current, after, gone), mimetype="text/event-stream")
    response.call_on_close(current.streams.release)
    return personal(response)


def _start() -> int | None:
    last = request.headers.get("Last-Event-ID")
    return parse_id(last, "Last-Event-ID") if last else post_id("after")


def _stream(current: State, after: int, gone: Callable[[], bool]) -> Iterator[str]:
    began_at = spoke_at = time.monotonic()
    # An id without data is no event, yet the client keeps it for its next Last-Event-ID.
    yield f"retry: {_RETRY_MS}\nid: {after}\n\n"
    while not gone() and time.monotonic() - began_at < _STREAM_S:
        position = current.feed.position()
        with current.database.read() as session:
            found = [post_values(post) for post in posts.newer(session, after)]
        # The connection is back in the pool before anything waits for the client.
        for values in found:
            after = int(str(values["id"]))
            yield f"id: {after}\nevent: post\ndata: {json.dumps(values)}\n\n"
            spoke_at = time.monotonic()
        if time.monotonic() - spoke_at >= _HEARTBEAT_S:
            yield ": still here\n\n"
            spoke_at = time.monotonic()
        if not found:
            current.feed.wait(position, _POLL_S)


def _unknown() -> bool:
    """Stand in where the server cannot say; there the next write to the closed socket ends it."""
    return False
