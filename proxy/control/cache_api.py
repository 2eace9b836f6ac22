"""/api/cache: what `proxyd cache` shows and does, over HTTP.

    GET  stats
    GET  ls?pattern=*/a/*&sort=size|age|hits&limit=50
    GET  show?url=http://…&header=Name: value     `header` any number of times
    POST purge  {"urls": [], "prefixes": [], "patterns": [], "tags": [], "all": false,
                 "soft": false}
    POST warm   {"urls": [], "sitemap": "http://…", "headers": ["Name: value"], "parallel": 4}

The tools read files and ask workers, so they run in threads, a few at a time.
"""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from aiohttp import web

from proxy.config.schema import Config
from proxy.control.content import answer, content_of
from proxy.control.guard import refusal
from proxy.control.master import Master
from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.control.cache_work import CacheWork

LIMIT_MOST = 10_000
_AT_ONCE = 4
# The master answers at once, or is about to end.
_STATUS_S = 2.0

ResultT = TypeVar("ResultT")


class Purge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"everything": "all"}):
    """What to purge; of several, each."""

    urls: list[str] = []
    prefixes: list[str] = []
    patterns: list[str] = []
    tags: list[str] = []
    everything: bool = False
    soft: bool = False


class Warm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to warm: as a browser asks, but for `headers`; as many at a time as the tool may."""

    urls: list[str] = []
    sitemap: str = ""
    headers: list[str] = []
    parallel: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4


class CacheApi:
    """The handlers."""

    def __init__(self, config: Config, run_folder: Path, master: Master) -> None:
        self._config = config
        self._master = master
        self._warming = asyncio.Lock()
        self._ending = threading.Event()
        self._run_folder = run_folder
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def stats(self, request: web.Request) -> web.Response:
        """Tell how much is stored."""
        return answer(await self._do(lambda work: work.stats()))

    async def ls(self, request: web.Request) -> web.Response:
        """Tell what is stored."""
        query = request.query
        sort = query.get("sort", "size")
        limit = query.get("limit", "50")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= LIMIT_MOST:
            raise refusal(web.HTTPBadRequest, f"`limit` is a number from 1 to {LIMIT_MOST}")
        pattern = query.get("pattern", "*")
        return answer(await self._do(lambda work: work.ls(pattern, sort, int(limit))))

    async def show(self, request: web.Request) -> web.Response:
        """Tell what is stored for a URL."""
        url = request.query.get("url")
        if not url:
            raise refusal(web.HTTPBadRequest, "say of what: /api/cache/show?url=http://…")
        headers = request.query.getall("header", [])
        return answer(await self._do(lambda work: work.show(url, headers)))

    async def purge(self, request: web.Request) -> web.Response:
        """Purge; in effect on every worker when it is answered."""
        wanted = await content_of(request, Purge)
        return answer({"done": await self._do(lambda work: work.purge(wanted))})

    async def warm(self, request: web.Request) -> web.Response:
        """Ask for URLs, so that their answers are stored; one warming at a time."""
        wanted = await content_of(request, Warm)
        if not wanted.urls and not wanted.sitemap:
            raise refusal(web.HTTPBadRequest, "say what: `urls`, or the URL of a `sitemap`")
        if self._warming.locked():
            raise refusal(web.HTTPConflict, "the cache is being warmed; wait for that to end")
        async with self._warming:
            _text, status = await self._master.command("status", lambda _text: None, _STATUS_S)
            listeners: list[str] = status["listeners"]
            ended = self._ending.is_set
            return answer(await self._do(lambda work: work.warm(listeners, wanted, ended)))

    async def end(self, _application: web.Application) -> None:
        """Let what warms come to its end; called when this process ends."""
        self._ending.set()

    async def _do(self, work: Callable[["CacheWork"], ResultT]) -> ResultT:
        if not self._config.uses_cache:
            raise refusal(web.HTTPNotFound, "no route has a cache; see [route.cache]")
        async with self._turns:
            try:
                return await asyncio.to_thread(self._work, work)
            except CommandError as error:
                raise refusal(web.HTTPBadRequest, str(error)) from None

    def _work(self, work: Callable[["CacheWork"], ResultT]) -> ResultT:
        from proxy.control.cache_work import CacheWork

        return work(CacheWork(self._config, self._run_folder))
