"""/api/cache: what `proxyd cache` shows and does, over HTTP.

    GET  stats
    GET  ls?pattern=*/a/*&sort=size|age|hits&limit=50
    GET  show?url=http://…&header=Name: value     `header` any number of times
    POST purge  {"urls": [], "prefixes": [], "patterns": [], "tags": [], "all": false,
                 "soft": false}

The tools read files and ask workers, so they run in threads, a few at a time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar, get_args

import msgspec
from aiohttp import web

from proxy.compose import uses_cache
from proxy.config.schema import Config
from proxy.control.content import answer, content_of
from proxy.control.guard import refusal
from proxy.errors import CommandError
from proxy.tools import listing, purging, show
from proxy.tools.asked import Asked, asked
from proxy.tools.explain import show_entry
from proxy.tools.setting import Setting, setting_of
from proxy.tools.workers import WorkerSockets

LIMIT_MOST = 10_000
_AT_ONCE = 4

ResultT = TypeVar("ResultT")


class Purge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"everything": "all"}):
    """What to purge; of several, each."""

    urls: list[str] = []
    prefixes: list[str] = []
    patterns: list[str] = []
    tags: list[str] = []
    everything: bool = False
    soft: bool = False


class CacheApi:
    """The handlers."""

    def __init__(self, config: Config, run_folder: Path) -> None:
        self._config = config
        self._run_folder = run_folder
        self._workers = WorkerSockets(run_folder)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def stats(self, request: web.Request) -> web.Response:
        """Tell how much is stored."""
        return answer(await self._do(lambda setting: listing.stats(setting, self._workers)))

    async def ls(self, request: web.Request) -> web.Response:
        """Tell what is stored."""
        query = request.query
        sort = query.get("sort", "size")
        limit = query.get("limit", "50")
        if sort not in get_args(listing.Sort):
            raise refusal(web.HTTPBadRequest, "`sort` is one of size, age, hits")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= LIMIT_MOST:
            raise refusal(web.HTTPBadRequest, f"`limit` is a number from 1 to {LIMIT_MOST}")
        listed, trouble = await self._do(
            lambda setting: listing.ls(
                setting,
                self._workers,
                query.get("pattern", "*"),
                sort,  # type: ignore[arg-type]  # one of them
                int(limit),
            )
        )
        return answer({"entries": [asdict(one) for one in listed], "trouble": trouble})

    async def show(self, request: web.Request) -> web.Response:
        """Tell what is stored for a URL."""
        url = request.query.get("url")
        if not url:
            raise refusal(web.HTTPBadRequest, "say of what: /api/cache/show?url=http://…")
        question = asked_of(url, request.query.getall("header", []))
        return answer(await self._do(lambda setting: show.plain(show_entry(setting, question))))

    async def purge(self, request: web.Request) -> web.Response:
        """Purge; in effect on every worker when it is answered."""
        wanted = await content_of(request, Purge)
        wish = purging.Wish(
            urls=wanted.urls,
            prefixes=wanted.prefixes,
            patterns=wanted.patterns,
            tags=wanted.tags,
            everything=wanted.everything,
            soft=wanted.soft,
        )
        return answer({"done": await self._do(lambda setting: purging.purge(setting, wish))})

    async def _do(self, work: Callable[[Setting], ResultT]) -> ResultT:
        if not uses_cache(self._config):
            raise refusal(web.HTTPNotFound, "no route has a cache; see [route.cache]")
        async with self._turns:
            try:
                return await asyncio.to_thread(self._work, work)
            except CommandError as error:
                raise refusal(web.HTTPBadRequest, str(error)) from None

    def _work(self, work: Callable[[Setting], ResultT]) -> ResultT:
        return work(setting_of(self._config, self._run_folder))


def asked_of(url: str, headers: list[str]) -> Asked:
    """Return the request that is meant. Raises HTTPException."""
    try:
        return asked(url, headers)
    except CommandError as error:
        raise refusal(web.HTTPBadRequest, str(error)) from None
