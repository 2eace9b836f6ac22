"""In the application's process: how long the application takes for the head of an answer.

Loaded by serve_wsgi.py, and like that imports nothing of proxyd. Measured is from when the WSGI
server calls the application until that has called `start_response`: with Flask the whole view and
its template, without what a generator makes as it is sent. Requests of routes with `server_timing`
ask for it in a field that only proxyd writes; the answer goes back in a field that it keeps.
"""

from collections.abc import Callable, Iterable
from time import perf_counter, thread_time
from typing import Any, Final

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Headers = list[tuple[str, str]]

FIELD: Final = "X-Proxyd-Timing"
KEY: Final = "HTTP_X_PROXYD_TIMING"


def tell_times(application: Application, *, cpu: bool) -> Application:
    """Return the application, which says what it took where proxyd asks.

    `cpu`: whether a thread works on one request alone, so that its CPU time is that of the request.
    """

    def told(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.pop(KEY, None) is None:
            return application(environ, start_response)
        cpu_began_s = thread_time() if cpu else 0.0
        began_at = perf_counter()

        def start(status: str, headers: Headers, *exc_info: Any) -> Any:
            took_ms = (perf_counter() - began_at) * 1000
            value = f"app;dur={took_ms:.3f}"
            if cpu:
                value += f", app_cpu;dur={(thread_time() - cpu_began_s) * 1000:.3f}"
            kept = [line for line in headers if line[0].lower() != FIELD.lower()]
            return start_response(status, [*kept, (FIELD, value)], *exc_info)

        return application(environ, start)

    return told
