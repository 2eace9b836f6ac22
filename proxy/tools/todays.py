"""What the catalogue knows of entries, as it is today: by their files, the rules and the purges.

The catalogue notes a lifetime when it first sees a file. Since then the entry may have been
validated or purged, and proxy.toml may say something else.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from proxy.cache.disk_folder import path_of
from proxy.cache.disk_load import read_head
from proxy.cache.entry import Entry
from proxy.cache.head import Head
from proxy.cache.inventory import Item
from proxy.cache.purges import Verdict
from proxy.errors import CommandError, StoredContentError
from proxy.pipeline.refit import refit
from proxy.rules.cache_key import key_url
from proxy.tools.asked import asked
from proxy.tools.setting import Setting
from proxy.tools.stored import as_stored, purges_in


class Today(NamedTuple):
    """An entry on disk; its age and what is left of its lifetime in seconds, none when stale."""

    item: Item
    age_s: float
    fresh_s: float


def todays(setting: Setting, items: Iterable[Item]) -> Iterator[Today]:
    """Yield what there still is of `items`: neither gone nor purged."""
    with ExitStack() as opened:
        purges = purges_in(setting.folder)
        if purges is not None:
            opened.callback(purges.close)
        for item in items:
            try:
                head = read_head(path_of(str(setting.folder), bytes.fromhex(item.name)))
            except (StoredContentError, OSError):
                continue
            if not isinstance(head, Head):
                continue
            entry, verdict, *_ = as_stored(head, purges, item.hits)
            if verdict is Verdict.HARD:
                continue
            now = time.monotonic()
            fresh_s = entry.fresh_until - now if is_usable(setting, entry, now) else 0.0
            yield Today(item, now - entry.born_at, fresh_s)


def is_usable(setting: Setting, entry: Entry, now: float) -> bool:
    """Give an entry its lifetime of today; False when the rules have no use for it.

    What has no host in its key is left as it is: which route it is of cannot be told.
    """
    url = key_url(entry.key).decode("latin-1")
    try:
        request = asked(url.replace("*://", "http://", 1)).request
    except CommandError:
        return True
    for route in setting.parts.site.routes:
        if route.matches(request.host, request.route_path):
            return route.cache is not None and refit(entry, request, route.cache, now)
    return False
