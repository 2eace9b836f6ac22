"""The addresses of the control process, and what all their answers have in common.

    GET  /health/live            this process answers
    GET  /health/ready           and clients are served: 200, or 503
    GET  /metrics                for Prometheus
    GET  /api/status             what `proxyd status --json` shows
    POST /api/reload             200 when the new generation serves, 409 when the old one goes on
    POST /api/stop               202; {"now": true} cuts off requests in progress
    GET  /api/cache/stats, ls, show; POST /api/cache/purge, warm     see cache_api.py

Answers are JSON, but for /metrics. An error is {"error": "what, and the way out"}.
"""

import asyncio
import logging
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.exposition import choose_encoder

from proxy.config.schema import Config
from proxy.control.cache_api import CacheApi
from proxy.control.content import answer, content_of
from proxy.control.exposition import Exposition, Found, disk_totals
from proxy.control.guard import Guard
from proxy.control.master import Master
from proxy.errors import CommandError, ProxydError
from proxy.observe.metrics_file import read
from proxy.process.state import METRICS
from proxy.process.traffic import with_traffic

# A monitor waits no longer; the master answers at once, or is about to end.
_STATUS_S = 2.0
# As `proxyd reload`: applications may take their time to start.
_RELOAD_S = 900.0
_STOP_S = 5.0
_BODY_BYTES = 64 * 1024
_PROGRESS_LINES = 1000

log = logging.getLogger("proxyd.control")


class Control:
    """The handlers."""

    def __init__(self, config: Config, master: Master) -> None:
        self._config = config
        self._master = master
        self._metrics = config.server.state_dir / METRICS

    async def live(self, request: web.Request) -> web.Response:
        """Say that this process answers."""
        return answer({"status": "alive"})

    async def ready(self, request: web.Request) -> web.Response:
        """Say whether clients are served."""
        status = await self._status()
        serving = next(each for each in status["generations"] if each["state"] == "serving")
        missing = [process["name"] for process in serving["processes"] if process["pid"] is None]
        workers = [name for name in processes_of(serving) if name.startswith("worker ")]
        up = [name for name in workers if name not in missing]
        found = {"status": "ready" if up else "no worker runs", "missing": missing}
        return answer(found, 200 if up else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """Tell everything in numbers."""
        try:
            status: dict[str, Any] | None = await self._status()
        except CommandError as error:
            log.warning("metrics without the processes: %s", error)
            status = None
        found = await asyncio.to_thread(self._found, status)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(Exposition(found)), headers={"Content-Type": content_type})

    def _found(self, status: dict[str, Any] | None) -> Found:
        try:
            values = read(self._metrics)
        except OSError as error:
            raise CommandError(f"the metrics cannot be read: {error}") from None
        return Found(values, status, disk_totals(self._config))

    async def status(self, request: web.Request) -> web.Response:
        """Tell what runs."""
        return answer(await asyncio.to_thread(with_traffic, await self._status(), self._metrics))

    async def _status(self) -> dict[str, Any]:
        return (await self._master.command("status", ignore, _STATUS_S))[1]

    async def reload(self, request: web.Request) -> web.Response:
        """Replace what runs, or say why what ran goes on."""
        told: list[str] = []

        def tell(text: str) -> None:
            if len(told) < _PROGRESS_LINES:
                told.append(text)

        try:
            text, data = await self._master.command("reload", tell, _RELOAD_S)
        except CommandError as error:
            return answer({"error": str(error), "progress": told}, 409)
        return answer({"text": text, "progress": told, **data})

    async def stop(self, request: web.Request) -> web.Response:
        """Begin to end; nobody will be there to say how it went."""
        wanted = await content_of(request, Stop)
        began = asyncio.Event()
        name = "stop now" if wanted.now else "stop"
        ending = asyncio.create_task(
            self._master.command(name, lambda _text: began.set(), _RELOAD_S)
        )
        waiting = asyncio.create_task(began.wait())
        done, _ = await asyncio.wait(
            {ending, waiting}, timeout=_STOP_S, return_when=asyncio.FIRST_COMPLETED
        )
        waiting.cancel()
        if ending in done:
            ending.result()
        return answer({"text": "ending"}, 202)


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a stop may say."""

    now: bool = False


def processes_of(generation: dict[str, Any]) -> list[str]:
    """Return the names of its processes."""
    return [process["name"] for process in generation["processes"]]


def ignore(_text: str) -> None:
    """Nobody listens to the progress."""


def application(config: Config, run_folder: Path, master: Master, guard: Guard) -> web.Application:
    """Return what answers."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            guard.check(request)
            response = await handler(request)
        except web.HTTPException as error:
            response = failed(error)
        except ProxydError as error:
            response = answer({"error": str(error)}, getattr(error, "status", 503))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = answer({"error": "it failed; the log says why"}, 500)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Server"] = "proxyd"
        return response

    made = web.Application(middlewares=[guarded], client_max_size=_BODY_BYTES)
    control, cache = Control(config, master), CacheApi(config, run_folder, master)
    made.on_shutdown.append(cache.end)
    made.add_routes(
        [
            web.get("/health/live", control.live),
            web.get("/health/ready", control.ready),
            web.get("/metrics", control.metrics),
            web.get("/api/status", control.status),
            web.post("/api/reload", control.reload),
            web.post("/api/stop", control.stop),
            web.get("/api/cache/stats", cache.stats),
            web.get("/api/cache/ls", cache.ls),
            web.get("/api/cache/show", cache.show),
            web.post("/api/cache/purge", cache.purge),
            web.post("/api/cache/warm", cache.warm),
        ]
    )
    return made


def failed(error: web.HTTPException) -> web.Response:
    """Return the answer for what is not there, or may not be."""
    text = error.text or ""
    if text.startswith(f"{error.status}:"):  # aiohttp's own
        text = HTTPStatus(error.status).phrase.lower()
        if error.status == 405:
            text += f"; use {error.headers.get('Allow', 'another one')}"
        if error.status == 404:
            text += "; there are /health/live, /health/ready, /metrics and /api/…"
    response = answer({"error": text}, error.status)
    for name in ("Allow", "WWW-Authenticate"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response
