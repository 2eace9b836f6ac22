"""What /api/cache does in a thread: the tools of `proxyd cache`, with values that JSON has.

They bring the way of a request into memory, so cache_api.py imports this when it is first asked.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, get_args

from proxy.config.schema import Config
from proxy.control.cache_api import Purge, Warm
from proxy.errors import CommandError
from proxy.tools import listing, purging, show, warm
from proxy.tools.asked import asked, field
from proxy.tools.explain import show_entry
from proxy.tools.setting import setting_of
from proxy.tools.workers import WorkerSockets

# How many URLs that were not stored are named.
_NAMED = 20


class CacheWork:
    """One use of the tools; every method raises CommandError."""

    def __init__(self, config: Config, run_folder: Path) -> None:
        self._setting = setting_of(config, run_folder)
        self._workers = WorkerSockets(run_folder)

    def stats(self) -> dict[str, Any]:
        """Tell how much is stored."""
        return listing.stats(self._setting, self._workers)

    def ls(self, pattern: str, sort: str, limit: int) -> dict[str, Any]:
        """Tell what is stored."""
        if sort not in get_args(listing.Sort):
            raise CommandError("`sort` is one of size, age, hits")
        listed, trouble = listing.ls(
            self._setting,
            self._workers,
            pattern,
            sort,  # type: ignore[arg-type]  # one of them
            limit,
        )
        return {"entries": [asdict(one) for one in listed], "trouble": trouble}

    def show(self, url: str, headers: list[str]) -> dict[str, Any]:
        """Tell what is stored for a URL."""
        return show.plain(show_entry(self._setting, asked(url, headers)))

    def purge(self, wanted: Purge) -> list[str]:
        """Purge; in effect on every worker when it is done."""
        wish = purging.Wish(
            urls=wanted.urls,
            prefixes=wanted.prefixes,
            patterns=wanted.patterns,
            tags=wanted.tags,
            everything=wanted.everything,
            soft=wanted.soft,
        )
        return purging.purge(self._setting, wish)

    def warm(
        self, listeners: list[str], wanted: Warm, stopped: Callable[[], bool]
    ) -> dict[str, Any]:
        """Ask for URLs, so that their answers are stored."""
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
            counts = warm.warm(daemon, urls, wanted.parallel, done, stopped)
        finally:
            daemon.close()
        return {"counts": counts, "not_stored": poor}


def no_file(name: str) -> NoReturn:
    """Refuse to read a file of this machine for whoever asks over HTTP. Raises CommandError."""
    raise CommandError(f'"{name}" is no URL; a `sitemap` is http://HOST/sitemap.xml')
