"""The connections of the control process, with their bounds; what they ask is application.py's."""

import asyncio
import socket
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.protocol.socket_file import KEEP_FILE

# Many monitors; past it the oldest connection without a request goes for a new one.
CONNECTIONS = 64
KEEPALIVE_S = 15.0
# What a request in progress gets at the end, and once more when it is cut off: together less than
# the master's FAST_STOP_S, and enough for the outcome of the reload that ended this process.
GRACE_S = 1.0
HEAD_BYTES = 8 * 1024


class Serving:
    """Accepts on the sockets from the master."""

    def __init__(self, application: web.Application) -> None:
        application.middlewares.insert(0, self._mark_busy)
        self._busy: set[object] = set()
        self._runner = web.AppRunner(
            application,
            handle_signals=False,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=HEAD_BYTES,
            max_field_size=HEAD_BYTES,
            shutdown_timeout=GRACE_S,
        )
        self._servers: list[asyncio.Server] = []

    async def begin(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from now on."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
            if sock.family == socket.AF_UNIX:
                server = await loop.create_unix_server(self._accept, sock=sock, **KEEP_FILE)
            else:
                server = await loop.create_server(self._accept, sock=sock)
            self._servers.append(server)

    def _accept(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("accepted before the beginning")
        connections = server.connections
        if len(connections) >= CONNECTIONS:
            for connection in connections:
                if connection not in self._busy:
                    connection.force_close()
                    break
        return server()

    @web.middleware
    async def _mark_busy(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.protocol
        self._busy.add(connection)
        try:
            return await handler(request)
        finally:
            self._busy.discard(connection)

    async def end(self) -> None:
        """Accept no more, and let those who wait have their answers."""
        for server in self._servers:
            server.close()
        await self._runner.cleanup()
