"""Asks the servers of upstreams in the background whether they are well, and tells their groups.

Every worker asks for itself, as every worker balances for itself. aiohttp is imported only where a
probe is configured: it takes memory and start-up time that most sites need not pay.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from ssl import SSLContext
from typing import TYPE_CHECKING

from proxy.config.backends import Upstream
from proxy.config.schema import Config
from proxy.config.upstreams import Probe
from proxy.rules.health import Thresholds
from proxy.upstream.address import TcpAddress, UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.server import Server
from proxy.upstream.tls import client_context

if TYPE_CHECKING:
    from aiohttp import BaseConnector, ClientSession

log = logging.getLogger("proxyd.probe")

# Workers start together, and should not all ask at the same moment for ever after.
SPREAD = 0.1


class Probes:
    """The tasks that ask, one for each server; `start` in the worker's loop, `stop` at its end."""

    def __init__(self, config: Config, groups: Mapping[str, Group]) -> None:
        self._config = config
        self._groups = groups
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to ask, if there is anybody to be asked."""
        for name, upstream in self._config.upstream.items():
            if upstream.probe is None:
                continue
            for index in range(len(upstream.servers)):
                asking = keep_asking(self._groups[name], index, upstream, upstream.probe)
                self._tasks.append(asyncio.create_task(asking))

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def keep_asking(group: Group, index: int, upstream: Upstream, probe: Probe) -> None:
    """Ask one server again and again, and tell its group when the verdict changes."""
    from aiohttp import ClientSession, ClientTimeout

    server = upstream.servers[index]
    thresholds = Thresholds(probe.rise, probe.fall)
    headers = {"User-Agent": "proxyd", "Accept": "*/*"}
    if probe.host is not None:
        headers["Host"] = probe.host
    async with ClientSession(
        connector=connector_to(server),
        timeout=ClientTimeout(total=probe.timeout_s),
        headers=headers,
        auto_decompress=False,
    ) as session:
        context = None if upstream.tls is None else client_context(upstream.tls)
        server_name = None if upstream.tls is None else upstream.tls.server_name
        while True:
            failure = await ask(session, server, probe, context, server_name)
            if thresholds.note(not failure):
                tell(group, index, server, failure)
            await asyncio.sleep(probe.interval_s * random.uniform(1 - SPREAD, 1 + SPREAD))  # noqa: S311


def tell(group: Group, index: int, server: Server, failure: str) -> None:
    """Let the group and the log know that a server went down (`failure` says why) or came up."""
    group.probed(index, not failure)
    if failure:
        log.warning("upstream %s (%s) is down: its probe %s", group.name, server, failure)
    else:
        log.info("upstream %s (%s) is up again", group.name, server)


async def ask(
    session: "ClientSession",
    server: Server,
    probe: Probe,
    context: SSLContext | None,
    server_name: str | None,
) -> str:
    """Send one request; return what was wrong with the answer, "" for nothing."""
    from aiohttp import ClientError
    from yarl import URL

    host = "localhost" if isinstance(server.address, UnixAddress) else str(server.address)
    scheme = "http" if context is None else "https"
    url = URL(f"{scheme}://{host}{probe.path}", encoded=True)
    try:
        async with session.get(
            url, allow_redirects=False, ssl=context or True, server_hostname=server_name
        ) as answer:
            status = answer.status
    except TimeoutError:
        return f"had no answer within {probe.timeout_s:g} s"
    except (ClientError, OSError, ValueError) as error:
        return f"failed: {error}"
    return "" if status in probe.statuses else f"was answered with {status}"


def connector_to(server: Server) -> "BaseConnector":
    """Return what connects to the server, anew for each probe, since that may fail as well."""
    from aiohttp import TCPConnector, UnixConnector

    if isinstance(server.address, TcpAddress):
        return TCPConnector(force_close=True, use_dns_cache=False)
    return UnixConnector(str(server.address.path), force_close=True)
