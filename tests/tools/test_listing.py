"""What is listed of the disk and of the memory of workers, and what the terminal shows."""

import time
from dataclasses import asdict
from typing import Any

import pytest

from proxy.cache.index import Described, Found, Index
from proxy.pipeline.census import Census, Kept, Wanted
from proxy.tools import listing
from proxy.tools.setting import Setting


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


@pytest.fixture
def catalogue(site: Setting) -> Setting:
    """Let the catalogue know three entries, and a file that was not read."""
    site.folder.mkdir(parents=True)
    index = Index(site.folder)
    now = int(time.time())
    index.add([Found(bytes([at]) * 16, (at + 1) * 1000, now - 60 * at) for at in range(4)])
    index.describe(
        (
            row.id,
            Described((at + 1) * 1000, key=f"http://h/{at}", status=200 + at, fresh_until=now + 50),
        )
        for at in range(3)
        for row in index.named([bytes([at]) * 16])
    )
    index.close()
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
