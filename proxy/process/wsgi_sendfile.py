"""In the application's process: files that it has proxyd send (X-Sendfile, X-Accel-Redirect).

Loaded by serve_wsgi.py, and like that imports nothing of proxyd. Flask names every file that it
sends once USE_X_SENDFILE is on, the style sheets of its extensions as well; those that proxyd has
no leave to send are sent from here, as they would be without it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Headers = list[tuple[str, str]]

BLOCK_BYTES = 64 * 1024


def leave_files_to_proxyd(application: Application, folders: list[str]) -> Application:
    """Let proxyd send the files below `folders` that `application` names.

    What it says of their length is taken away: a WSGI server would wait for so many bytes.
    """
    config = getattr(application, "config", None)
    if isinstance(config, dict) and "USE_X_SENDFILE" in config:
        config["USE_X_SENDFILE"] = True
    names = {name for folder in folders for name in (os.path.normpath(folder), folder)}
    names |= {os.path.realpath(folder) for folder in folders}
    allowed = tuple(os.fsencode(name.rstrip("/") + "/") for name in names)

    def with_files(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        instead: list[Iterable[bytes]] = []

        def start(status: str, headers: Headers, *exc_info: Any) -> Any:
            named = {name.lower() for name, _ in headers} & {"x-sendfile", "x-accel-redirect"}
            if named:
                headers, content = _without_content(environ, status, headers, allowed)
                if content is not None:
                    instead.append(content)
            return start_response(status, headers, *exc_info)

        content = application(environ, start)
        if not instead:
            return content
        if hasattr(content, "close"):
            content.close()
        return instead[0]

    return with_files


def _without_content(
    environ: Environ, status: str, headers: Headers, allowed: tuple[bytes, ...]
) -> tuple[Headers, Iterable[bytes] | None]:
    """Return the headers as proxyd needs them, and the content to send, None for what there is."""
    given = {name.lower(): value for name, value in headers}
    if status[:3] in {"204", "304"}:
        return headers, None
    name = _as_bytes(given["x-sendfile"]) if "x-sendfile" in given else None
    if name is None or name.startswith(allowed):
        kept = [line for line in headers if line[0].lower() not in {"content-length", "x-sendfile"}]
        if name is not None:
            kept.append(("X-Sendfile", name.decode("latin-1")))
        return [*kept, ("Content-Length", "0")], ()
    kept = [line for line in headers if line[0].lower() != "x-sendfile"]
    if environ["REQUEST_METHOD"] == "HEAD":
        return kept, None
    with suppress(OSError):
        first, length = _part(given)
        return kept, _Content(open(name, "rb"), first, length)
    return headers, None  # proxyd will say what is wrong


def _as_bytes(value: str) -> bytes:
    """Return the file name: text as Flask gives it, or bytes as latin-1 as PEP 3333 asks."""
    if value.isascii() or os.path.exists(value):
        return os.fsencode(value)
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return os.fsencode(value)


def _part(given: dict[str, str]) -> tuple[int, int | None]:
    """Return where the content begins and how long it is, from "bytes 2-5/10" or its length."""
    unit, _, span = given.get("content-range", "").partition(" ")
    if unit == "bytes":
        first, _, last = span.partition("/")[0].partition("-")
        return int(first), int(last) - int(first) + 1
    length = given.get("content-length")
    return 0, None if length is None else int(length)


class _Content:
    """A part of a file, in blocks."""

    def __init__(self, file: BinaryIO, first: int, length: int | None) -> None:
        self._file = file
        self._left = length
        file.seek(first)

    def __iter__(self) -> Iterator[bytes]:
        while data := self._file.read(self._wanted()):
            if self._left is not None:
                self._left -= len(data)
            yield data
        self.close()

    def _wanted(self) -> int:
        return BLOCK_BYTES if self._left is None else min(BLOCK_BYTES, self._left)

    def close(self) -> None:
        """Close the file, as WSGI servers ask at the end of a content."""
        self._file.close()
