"""Finds the IP addresses of upstream names, and remembers them for a while."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable

from proxy.errors import UpstreamError

log = logging.getLogger("proxyd.upstream")

# getaddrinfo does not tell the TTL. nginx's resolver and Caddy's dynamic upstreams are of the same
# order (the TTL, and 30 s to 60 s).
FRESH_S = 30.0

Lookup = Callable[[str], Awaitable[list[str]]]


async def look_up(name: str) -> list[str]:
    """Ask the system; raises OSError. Each address comes once, in the system's order (RFC 6724)."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Name:
    """What is known of one name; `task` is the lookup under way."""

    __slots__ = ("addresses", "asked_at", "failing", "task")

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked_at = 0.0
        self.failing = ""
        self.task: asyncio.Task[None] | None = None


class Resolver:
    """Resolves the names of the configuration; there are as many entries as names there.

    Only the first lookup is waited for. Later ones run in the background while the old addresses
    are in use, and stay in use when the lookup fails.
    """

    __slots__ = ("_lookup", "_names")

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._names: dict[str, _Name] = {}

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses of `host`, which may be one itself. Raises UpstreamError."""
        if is_address(host):
            return [host]
        known = self._names.setdefault(host, _Name())
        now = asyncio.get_running_loop().time()
        if known.task is None and (not known.addresses or now - known.asked_at >= FRESH_S):
            known.asked_at = now
            known.task = asyncio.create_task(self._refresh(host, known))
        if not known.addresses and known.task is not None:
            await asyncio.shield(known.task)
            if not known.addresses:
                raise UpstreamError(
                    f"cannot find the address of {host}: {known.failing}; check the name and the"
                    " name server"
                )
        return known.addresses

    async def _refresh(self, host: str, known: _Name) -> None:
        try:
            addresses = await self._lookup(host)
        except OSError as error:
            if not known.failing and known.addresses:
                log.warning(
                    "cannot find the address of %s any more (%s); going on with %s",
                    host,
                    error,
                    ", ".join(known.addresses),
                )
            known.failing = str(error)
        else:
            known.failing = ""
            known.addresses = addresses
        finally:
            known.task = None


def is_address(host: str) -> bool:
    """Whether `host` is an IP address already."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
