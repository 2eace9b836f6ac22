"""A site with a cache, in a folder of its own, and answers that are stored in it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.cache import codec, disk_work
from proxy.cache.disk_folder import name_of
from proxy.cache.entry import Entry
from proxy.message import FieldLine, Fields
from proxy.tools.setting import Setting, setting
from proxy.tools.stored import clocks

CONFIGURATION = """\
[[listen]]
address = "127.0.0.1:8080"

[[listen]]
address = "127.0.0.1:8081"
https_redirect = 8443

[cache]
disk = "16MiB"

[[route]]
path = "/static/*"
files = "static"

[[route]]
path = "/bare/*"
host = "bare.example"
to = "old"
[route.cache]
enabled = false

[[route]]
path = "/*"
to = "old"
[route.cache]
min_ttl = "10s"
ignore_cookies = ["_ga"]
stale_if_error = "1h"
[route.cache.key]
query = { ignore = ["utm_*"] }
[route.cache.bypass]
cookies = ["preview"]
[[route.cache.rules]]
path = "/feed/*"
max_ttl = "5s"

[upstream.old]
servers = ["unix:old.sock"]
"""

Store = Callable[..., Entry]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a proxy.toml and a file."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "a.css").write_text("body{}")
    (tmp_path / "proxy.toml").write_text(CONFIGURATION)
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Setting:
    """Return what the proxy.toml comes to."""
    return setting(folder / "proxy.toml")


@pytest.fixture
def store(site: Setting) -> Store:
    """Return a function that stores an answer in the disk cache of the site."""

    def stored(
        key: str = "http://127.0.0.1:8080/a",
        *lines: FieldLine,
        age_s: float = 5.0,
        fresh_s: float = 60.0,
        **others: Any,
    ) -> Entry:
        now = clocks()
        born_at = now.monotonic - age_s
        fresh_until = born_at + fresh_s
        rule = site.parts.site.routes[-1].cache
        assert rule is not None
        rule = rule.overrides[0].rule if "/feed/" in key else rule
        entry = Entry(
            key=key.encode(),
            fields=Fields(lines or [(b"Cache-Control", b"public, max-age=60"), (b"ETag", b'"v1"')]),
            body=b"content",
            request_at=time.time() - age_s,
            response_at=time.time() - age_s,
            born_at=born_at,
            fresh_until=fresh_until,
            **{
                "status": 200,
                "swr_until": fresh_until,
                "sie_until": fresh_until + 3600,
                "keep_until": 1e9,
                "lifetime_id": rule.lifetime_id,
                "storing_id": rule.storing_id,
            }
            | others,
        )
        root = str(site.folder)
        name = name_of(entry.key, entry.variant)
        jobs: list[disk_work.Job] = [disk_work.Put(name, codec.encode(entry, now), b"content", 1e9)]
        if entry.vary:
            jobs.append(disk_work.Mark(name_of(entry.key, b""), entry.key, entry.vary, 1e9))
        assert all(isinstance(size, int) for size in disk_work.do_all(root, jobs))
        return entry

    return stored
