"""Whether the process of an application answers: one request to its own socket or port."""

import asyncio
from contextlib import suppress

from proxy.config.upstreams import Probe
from proxy.errors import StartError
from proxy.upstream.address import Address, UnixAddress

# Its first request may open databases and compile templates.
FIRST_ANSWER_S = 30.0
# What proxyd's own requests to an application say of their client.
_REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: proxyd\r\nAccept: */*\r\n"
    "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
    "X-Forwarded-Host: {host}\r\n{prefix}Connection: close\r\n\r\n"
)
ANY = frozenset(range(100, 600))
NO_FAILURE = frozenset(range(100, 500))
# What is asked of a process without `readiness`: many applications have no "/", and none must.
AT_START = Probe(path="/", timeout_s=FIRST_ANSWER_S, statuses=ANY)
AT_RELOAD = Probe(path="/", timeout_s=FIRST_ANSWER_S, statuses=NO_FAILURE)


async def complaint(address: Address, probe: Probe, mount: str = "") -> str:
    """Make one request; return what was wrong with the answer, as "did not …", "" for nothing."""
    what = f"GET {probe.path}"
    try:
        async with asyncio.timeout(probe.timeout_s):
            line = await _first_line(address, probe, mount)
    except TimeoutError:
        return f"did not answer {what} within {probe.timeout_s:g} s"
    except (OSError, ValueError) as error:
        return f"did not answer {what}: {error}"
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return f"did not answer {what} with HTTP"
    if int(words[1]) in probe.statuses:
        return ""
    return f"answered {what} with {words[1].decode()}"


async def _first_line(address: Address, probe: Probe, mount: str) -> bytes:
    if isinstance(address, UnixAddress):
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        prefix = f"X-Forwarded-Prefix: {mount}\r\n" if mount else ""
        host = probe.host or "localhost"
        writer.write(_REQUEST.format(path=probe.path, host=host, prefix=prefix).encode())
        return await reader.readline()
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def check_health(name: str, address: Address, mount: str = "") -> None:
    """Return when an application, to be deployed, has answered with anything but a failure.

    Raises StartError for 5xx, for no answer, and for what is not HTTP.
    """
    if text := await complaint(address, AT_RELOAD, mount):
        raise StartError(f"{name} {text}; its output is in the log")
