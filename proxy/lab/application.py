"""What every stack serves: a WSGI application with pages for the experiments.

    /lab/dynamic      the page of the application under test, for this visitor alone
    /lab/public       the same page, which anybody may keep for a minute
    /lab/journey      as that, and says in Server-Timing how long it took to make
    /lab/hello        a few bytes, without the application
    /lab/download     1 MiB that is made as it is sent
    /lab/upload       takes what is sent, and says how much that was
    /lab/probe/NAME   notes what arrived here, for the malformed requests
    /lab/seen         tells what was noted, and forgets it
    /static/NAME      a file, where no server in front has taken that from the application

It is put around the application of `PROXYD_LAB_APP` ("module:object"); without one it has a page of
its own, so that it needs nothing but Python. Every page carries a keyed digest of itself, by which
the load generator knows that it came from here and came whole.
"""

import hashlib
import hmac
import importlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Wsgi = Callable[[Environ, StartResponse], Iterable[bytes]]

APP = "PROXYD_LAB_APP"
PAGE = "PROXYD_LAB_PAGE"
FILES = "PROXYD_LAB_FILES"
KEY = "PROXYD_LAB_KEY"

DIGEST_FIELD = "X-Lab-Digest"
DOWNLOAD_BYTES = 1 << 20
HELLO = b"hello\n"
PIECE = b"0123456789abcdef" * 512
# More than one run of the probes asks for; a bound all the same.
SEEN_LIMIT = 1000
ROWS = 60


def digest(key: bytes, body: bytes) -> str:
    """Return the digest that a page with this body carries."""
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def plain_page(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the lab's own page: a table of 60 rows, about 6 KB, made anew each time."""
    rows = "\n".join(
        f"<tr><td>{number}</td><td>{escape(f'<{number}> & company')}</td>"
        f"<td>{number**3 % 997}</td><td>{hashlib.sha1(str(number).encode()).hexdigest()}</td></tr>"  # noqa: S324 - work, no secret
        for number in range(ROWS)
    )
    body = f"<!doctype html><title>A page</title><table>\n{rows}\n</table>\n".encode()
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(body)))])
    return [body]


class Pages:
    """The application with the lab's pages around it."""

    def __init__(self, inner: Wsgi, page: str, files: Path | None, key: bytes) -> None:
        self._inner = inner
        self._path, _, self._query = page.partition("?")
        self._files = files
        self._key = key
        self._seen: deque[dict[str, str]] = deque(maxlen=SEEN_LIMIT)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request. PEP 3333."""
        match environ.get("PATH_INFO", "").split("/", 3)[1:]:
            case ["lab", "dynamic"]:
                return self._page(environ, start_response, "private, no-store")
            case ["lab", "public"]:
                return self._page(environ, start_response, "public, max-age=60")
            case ["lab", "journey"]:
                return self._timed_page(environ, start_response)
            case ["lab", "hello"]:
                return answer(start_response, HELLO)
            case ["lab", "download"]:
                return download(start_response)
            case ["lab", "upload"]:
                return upload(environ, start_response)
            case ["lab", "probe", name]:
                return self._probe(environ, start_response, name)
            case ["lab", "seen"]:
                seen = [self._seen.popleft() for _ in range(len(self._seen))]
                return answer(start_response, json.dumps(seen).encode())
            case ["static", name] if self._files is not None:
                return static(environ, start_response, self._files / Path(name).name)
        return self._inner(environ, start_response)

    def _page(
        self, environ: Environ, start_response: StartResponse, cache_control: str
    ) -> Iterable[bytes]:
        """Answer with the application's page, made now, under what may be done with it."""
        told: list[Any] = []

        def inner_start(status: str, fields: list[tuple[str, str]], *_: object) -> object:
            told[:] = [status, fields]
            return lambda _: None

        inside = {
            **environ,
            "PATH_INFO": self._path,
            "QUERY_STRING": self._query,
        }
        result = self._inner(inside, inner_start)
        try:
            body = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        status, fields = told
        kinds = [value for name, value in fields if name.lower() == "content-type"]
        start_response(
            status,
            [
                ("Content-Type", kinds[0] if kinds else "application/octet-stream"),
                ("Content-Length", str(len(body))),
                ("Cache-Control", cache_control),
                (DIGEST_FIELD, digest(self._key, body)),
            ],
        )
        return [body]

    def _timed_page(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer with the page, and with its wall and CPU time; this thread makes nothing else."""
        cpu_began_s, began_at = time.thread_time(), time.perf_counter()

        def timed_start(status: str, fields: list[tuple[str, str]]) -> object:
            took_ms = (time.perf_counter() - began_at) * 1000
            cpu_ms = (time.thread_time() - cpu_began_s) * 1000
            value = f"page;dur={took_ms:.3f}, page_cpu;dur={cpu_ms:.3f}"
            return start_response(status, [*fields, ("Server-Timing", value)])

        return self._page(environ, timed_start, "public, max-age=60")

    def _probe(self, environ: Environ, start_response: StartResponse, name: str) -> Iterable[bytes]:
        """Note a request, as far as it tells apart what was sent."""
        try:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        except ValueError:
            body = b""
        fields = {
            field: str(value) for field, value in environ.items() if field.startswith("HTTP_")
        }
        note = {
            "name": name,
            "method": environ["REQUEST_METHOD"],
            "length": str(environ.get("CONTENT_LENGTH", "")),
            "body": body[:200].decode("latin-1"),
            **fields,
        }
        self._seen.append(note)
        return answer(start_response, b"seen\n")


def answer(start_response: StartResponse, body: bytes) -> list[bytes]:
    """Answer with a few bytes that nobody may keep."""
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", [*fields, ("Cache-Control", "no-store")])
    return [body]


def download(start_response: StartResponse) -> Iterator[bytes]:
    """Answer with 1 MiB in pieces of 8 KiB."""
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(DOWNLOAD_BYTES))]
    start_response("200 OK", [*fields, ("Cache-Control", "no-store")])
    return (PIECE for _ in range(DOWNLOAD_BYTES // len(PIECE)))


def upload(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Take the content."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    taken = 0
    while left > taken and (piece := environ["wsgi.input"].read(min(65536, left - taken))):
        taken += len(piece)
    return answer(start_response, f"{taken}\n".encode())


def static(environ: Environ, start_response: StartResponse, file: Path) -> Iterable[bytes]:
    """Answer with a file, as Flask does: by the server's `wsgi.file_wrapper`, if it has one."""
    try:
        opened = file.open("rb")
    except OSError:
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    size = os.fstat(opened.fileno()).st_size
    start_response(
        "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
    )
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is not None:
        wrapped: Iterable[bytes] = wrapper(opened, 65536)
        return wrapped
    return pieces(opened)


def pieces(opened: Any) -> Iterator[bytes]:
    """Read a file to its end, and close it."""
    with opened:
        while piece := opened.read(65536):
            yield piece


def load(target: str) -> Wsgi:
    """Import "module:object"."""
    module, _, attributes = target.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in (attributes or "app").split("."):
        found = getattr(found, attribute)
    loaded: Wsgi = found
    return loaded


def from_environment() -> Pages:
    """Make what the environment asks for."""
    target = os.environ.get(APP, "")
    files = os.environ.get(FILES)
    return Pages(
        load(target) if target else plain_page,
        os.environ.get(PAGE, "/"),
        Path(files) if files else None,
        os.environ.get(KEY, "").encode(),
    )


def __getattr__(name: str) -> Pages:
    """Make `app` when a WSGI server first asks for it, and not when the lab imports this file."""
    if name != "app":
        raise AttributeError(name)
    made = from_environment()
    globals()["app"] = made
    return made
