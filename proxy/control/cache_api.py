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
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_args

import msgspec
from aiohttp import web

from proxy.compose import uses_cache
from proxy.config.schema import Config
from proxy.control.content import answer, content_of
from proxy.control.guard import refusal
from proxy.control.master import Master
from proxy.errors import CommandError
from proxy.tools import listing, purging, show, warm
from proxy.tools.asked import Asked, asked, field
from proxy.tools.explain import show_entry
from proxy.tools.setting import Setting, setting_of
from proxy.tools.workers import WorkerSockets

LIMIT_MOST = 10_000
_AT_ONCE = 4
# How many URLs that were not stored are named.
_NAMED = 20
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
            return answer(await self._do(lambda _setting: self._warm(listeners, wanted)))

    def _warm(self, listeners: list[str], wanted: Warm) -> dict[str, Any]:
        """Warm in a thread. Raises CommandError."""
        lines = [field(header) for header in wanted.headers]
        headers = {name.decode(): value.decode() for name, value in lines}
        daemon = warm.Daemon(listeners, headers)
        poor: list[dict[str, str]] = []

        def done(warmed: warm.Warmed) -> None:
            if warmed.outcome not in {"stored", "hit"} and len(poor) < _NAMED:
                poor.append(warmed._asdict())

        try:
            urls = [asked(url) for url in wanted.urls]
            if wanted.sitemap:
                urls += warm.urls_of(daemon, wanted.sitemap, no_file)
            counts = warm.warm(daemon, urls, wanted.parallel, done, self._ending.is_set)
        finally:
            daemon.close()
        return {"counts": counts, "not_stored": poor}

    async def end(self, _application: web.Application) -> None:
        """Let what warms come to its end; called when this process ends."""
        self._ending.set()

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


def no_file(name: str) -> NoReturn:
    """Refuse to read a file of this machine for whoever asks over HTTP. Raises CommandError."""
    raise CommandError(f'"{name}" is no URL; a `sitemap` is http://HOST/sitemap.xml')
