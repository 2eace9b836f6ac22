"""Asks the application without any server, before a stack does: `python -m proxy.lab.reference`.

Says in a line of JSON what its page is (status, length) and how long it takes to make, so that a
page that cannot be measured is told at once, and the load fits what the application can do.
"""

import json
import sys
import time
from typing import Any

from proxy.lab.application import from_environment

TRIES = 20
# A page that takes longer than this is not asked for all those times.
ENOUGH_S = 1.0


def main() -> None:
    """Ask a few times, and print the answer and the least time."""
    application = from_environment()
    took_s: list[float] = []
    began_at = time.monotonic()
    status, body = "", b""
    while len(took_s) < TRIES and time.monotonic() - began_at < ENOUGH_S:
        asked_at = time.monotonic()
        status, body = ask(application)
        took_s.append(time.monotonic() - asked_at)
    told = {"status": status, "length": len(body), "page_s": min(took_s)}
    sys.stdout.write(json.dumps(told) + "\n")


def ask(application: Any) -> tuple[str, bytes]:
    """Make one request, as a WSGI server would."""
    from io import BytesIO

    told: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/lab/dynamic",
        "QUERY_STRING": "",
        "SERVER_NAME": "lab.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "lab.test",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    body = b"".join(application(environ, lambda status, *_: told.append(status)))
    return told[0], body


if __name__ == "__main__":
    main()
