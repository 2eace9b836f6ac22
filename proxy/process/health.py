"""Whether an application that has just started answers: one request through its own socket."""

import asyncio
from contextlib import suppress
from pathlib import Path

from proxy.errors import StartError

# Its first request may open databases and compile templates.
_ANSWER_S = 30.0
_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: proxyd\r\n"
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
    b"X-Forwarded-Host: localhost\r\nConnection: close\r\n\r\n"
)


async def check_health(name: str, path: Path) -> None:
    """Return when the application has answered with anything but a failure of its own.

    Raises StartError for 5xx, for no answer, and for what is not HTTP. What the application does
    not have, or gives to nobody, is no failure: many have no "/".
    """
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(_REQUEST)
                line = await reader.readline()
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
    except TimeoutError:
        raise StartError(f"{name} did not answer GET / within {_ANSWER_S:g} s") from None
    except (OSError, ValueError) as error:
        raise StartError(f"{name} did not answer GET /: {error}") from None
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise StartError(f"{name} did not answer GET / with HTTP")
    if words[1].startswith(b"5"):
        raise StartError(
            f"{name} answered GET / with {words[1].decode()}; its output is in the log"
        )
