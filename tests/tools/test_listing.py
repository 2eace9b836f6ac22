"""What is listed of the disk and of the memory of workers, and what the terminal shows."""

import copy
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.entry import Entry
from proxy.cache.index import Described, Found, Index
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.pipeline.census import Census, Kept, Wanted
from proxy.tools import listing
from proxy.tools.setting import Setting, setting
from tests.tools.conftest import Store


class Told:
    """Workers that say what a test wants."""

    def __init__(self, *censuses: Census) -> None:
        self.censuses = list(censuses)
        self.wanted: list[Wanted] = []

    def census(self, wanted: Wanted) -> list[Census]:
        self.wanted.append(wanted)
        return self.censuses


def kept(key: str, **others: Any) -> Kept:
    values = {"variant": "", "status": 200, "size_bytes": 5, "hits": 2, "age_s": 3.0}
    return Kept(key=key, **{**values, "fresh_s": 9.0, **others})


def describe(site: Setting, entries: Iterable[Entry], unread: int = 0) -> None:
    """Let the catalogue know entries, and some files that were not read; the larger, the later."""
    index = Index(site.folder)
    now = int(time.time())
    names = [name_of(entry.key, entry.variant) for entry in entries]
    names += [bytes([at]) * 16 for at in range(unread)]
    index.add([Found(name, (at + 1) * 1000, now) for at, name in enumerate(names)])
    index.describe(
        (
            row.id,
            Described(
                (at + 1) * 1000,
                key=entry.key.decode(),
                status=entry.status,
                fresh_until=now + 50,
                keep_until=now + 900,
            ),
        )
        for at, entry in enumerate(entries)
        for row in index.named([name_of(entry.key, entry.variant)])
    )
    index.close()


@pytest.fixture
def catalogue(site: Setting, store: Store) -> Setting:
    """Let the catalogue know three entries, and a file that was not read."""
    entries = [store(f"http://h/{at}", status=200 + at, age_s=60.0 * at) for at in range(3)]
    describe(site, entries, unread=1)
    return site


def test_entries_of_disk_and_memory_are_one_list(catalogue: Setting) -> None:
    told = Told(
        Census(2, 10, 7, [kept("http://h/2", hits=5), kept("http://h/m", size_bytes=2500)]),
        Census(1, 10, 0, [kept("http://h/2", hits=1)]),
    )
    listed, trouble = listing.ls(catalogue, told, "*", "size", 3)
    assert trouble == ""
    assert told.wanted == [Wanted("*", "size", 3)]
    assert [(one.key, one.size_bytes, one.hits, one.where) for one in listed] == [
        ("http://h/2", 3000, 5, "disk, worker 1, worker 2"),
        ("http://h/m", 2500, 2, "worker 1"),
        ("http://h/1", 2000, 0, "disk"),
    ]


def test_the_oldest_or_the_most_used_come_first(catalogue: Setting) -> None:
    told = Told(Census(1, 10, 7, [kept("http://h/m")]))
    oldest, _ = listing.ls(catalogue, told, "*", "age", 9)
    assert [one.key[-1] for one in oldest] == ["2", "1", "m", "0"]
    used, _ = listing.ls(catalogue, told, "*/m", "hits", 9)
    assert [one.key[-1] for one in used] == ["m"]


def test_what_is_left_of_a_lifetime_is_as_the_file_has_it(site: Setting, store: Store) -> None:
    """The catalogue notes it once, when it finds the file."""
    describe(site, [store("http://h/1", age_s=5.0, fresh_s=1000.0)])
    ((one,), _) = listing.ls(site, Told(), "*", "size", 9)
    assert 4 < one.age_s < 10
    assert 990 < one.fresh_s < 996


@pytest.mark.parametrize(
    ("key", "before", "after", "fresh"),
    [
        ("http://h/1", 'min_ttl = "10s"', 'min_ttl = "500s"', (490, 496)),
        ("http://h/1", 'min_ttl = "10s"', 'max_ttl = "20s"', (10, 16)),
        ("http://h/feed/", 'max_ttl = "5s"', 'max_ttl = "50s"', (40, 46)),
        ("http://h/1", 'min_ttl = "10s"', 'ignore = ["expires"]', (-1, 0)),
        ("http://bare.example/bare/1", 'min_ttl = "10s"', "", (-1, 0)),
        ("http://*/1", 'min_ttl = "10s"', 'max_ttl = "20s"', (50, 56)),
    ],
    ids=["longer", "shorter", "one path", "of no use", "no cache", "no host"],
)
def test_what_is_left_of_a_lifetime_is_as_the_rules_of_today_have_it(
    site: Setting, store: Store, key: str, before: str, after: str, fresh: tuple[float, float]
) -> None:
    describe(site, [store(key, age_s=5.0)])
    text = site.config.source.file.read_text()
    site.config.source.file.write_text(text.replace(before, after))
    ((one,), _) = listing.ls(setting(site.config.source.file), Told(), "*", "size", 9)
    assert fresh[0] <= one.fresh_s <= fresh[1]


def test_what_no_route_serves_any_more_is_of_no_use(site: Setting, store: Store) -> None:
    describe(site, [store("http://h/1")])
    text = site.config.source.file.read_text()
    site.config.source.file.write_text(
        text.replace("/*", "/other/*").replace("/feed", "/other/feed")
    )
    ((one,), _) = listing.ls(setting(site.config.source.file), Told(), "*", "size", 9)
    assert one.fresh_s == 0


@pytest.mark.parametrize(
    ("mode", "listed"), [(Verdict.SOFT, 1), (Verdict.INVALID, 1), (Verdict.HARD, 0)]
)
def test_what_was_purged_is_stale_or_gone(
    site: Setting, store: Store, mode: Verdict, listed: int
) -> None:
    purges = Purges(site.folder)
    describe(site, [store("http://h/1", purge_seq=purges.current())])
    purges.add(Kind.ALL, mode)
    purges.close()
    found, _ = listing.ls(site, Told(), "*", "size", 9)
    assert len(found) == listed
    assert all(one.fresh_s <= 0 for one in found)


def test_what_is_gone_or_is_no_entry_is_not_listed(site: Setting, store: Store) -> None:
    gone, other = store("http://h/1"), store("http://h/2", variant=b"a", vary=(b"a",))
    marker = copy.copy(other)
    marker.variant = b""
    describe(site, [gone, marker, other])
    Path(path_of(str(site.folder), name_of(gone.key, b""))).unlink()
    found, _ = listing.ls(site, Told(), "*", "size", 9)
    assert [one.key for one in found] == ["http://h/2"]


def test_without_a_catalogue_the_memory_is_listed(site: Setting) -> None:
    listed, trouble = listing.ls(site, Told(Census(1, 1, 1, [kept("http://h/m")])), "*", "age", 9)
    assert [one.key for one in listed] == ["http://h/m"]
    assert "catalogue" in trouble


def test_stats_have_disk_and_memory(catalogue: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    found = listing.stats(catalogue, Told(Census(3, 2048, 9, [])))
    assert found["disk"]["statuses"] == {200: 1, 201: 1, 202: 1}
    assert found["memory"] == [{"entries": 3, "bytes": 2048, "hits": 9}]
    listing.show_stats(found)
    shown = capsys.readouterr().out
    assert "3 entries, 16.0 KiB of 16.0 MiB (0%)" in shown
    assert "1 files are still to be read" in shown
    assert "worker 1  3 entries, 2.0 KiB of 128 MiB, 9 hits" in shown


def test_stats_say_what_is_not_there(site: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    listing.show_stats(listing.stats(site, Told()))
    shown = capsys.readouterr().out
    assert "the catalogue" in shown
    assert "no proxyd runs" in shown


def test_a_list_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    one = listing.with_memory(kept("http://h/[b]", variant="cookie"), None, "worker 1")
    other = listing.Listed(**(asdict(one) | {"fresh_s": -1.0, "key": "http://h/2"}))
    listing.show_ls([one, other], "the catalogue is [busy]")
    shown = capsys.readouterr().out
    assert "http://h/[b] cookie" in shown
    assert "stale" in shown
    assert "the catalogue is [busy]" in shown
    listing.show_ls([], "")
    assert "nothing that matches is stored" in capsys.readouterr().out
