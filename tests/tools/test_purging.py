"""What `proxyd cache purge` writes into the file of purges."""

from pathlib import Path

import pytest

from proxy.cache.index import Described, Found, Index
from proxy.cache.purges import PURGES, Kind, Purges, Verdict
from proxy.errors import CommandError
from proxy.tools import purging
from proxy.tools.purging import Wish, purge
from proxy.tools.setting import Setting, setting

HOST = "127.0.0.1:8080"


def recorded(site: Setting) -> list[tuple[Kind, Verdict, bytes]]:
    purges = Purges(site.folder)
    found = [(Kind(one.kind), Verdict(one.mode), one.argument) for one in purges.records()]
    purges.close()
    return found


@pytest.mark.parametrize(
    ("wish", "kind", "arguments"),
    [
        (Wish(urls=["http://h/a?utm_x=1"]), Kind.URL, [b"http://h/a", b"https://h/a"]),
        (Wish(urls=["http://h/a/*"]), Kind.PATTERN, [b"http://h/a/*", b"https://h/a/*"]),
        (Wish(prefixes=["https://h/a"]), Kind.PREFIX, [b"https://h/a"]),
        (Wish(prefixes=["h/a"]), Kind.PREFIX, [b"http://h/a", b"https://h/a", b"*://h/a"]),
        (Wish(patterns=["*.css"]), Kind.PATTERN, [b"*.css"]),
        (Wish(tags=["a", "b", "a"]), Kind.TAG, [b"a", b"b"]),
        (Wish(everything=True), Kind.ALL, [b""]),
    ],
)
def test_each_wish_is_noted(wish: Wish, kind: Kind, arguments: list[bytes], site: Setting) -> None:
    assert len(purge(site, wish)) == len(arguments)
    assert recorded(site) == [(kind, Verdict.HARD, argument) for argument in arguments]


def test_soft_makes_stale(site: Setting) -> None:
    assert purge(site, Wish(tags=["a"], soft=True)) == ["made stale: tag a"]
    assert recorded(site) == [(Kind.TAG, Verdict.SOFT, b"a")]


@pytest.mark.parametrize(
    ("wish", "hint"),
    [
        (Wish(), "say what"),
        (Wish(tags=[" "]), "--all is everything"),
        (Wish(prefixes=["/a"]), "example.com/a"),
        (Wish(patterns=["/a"]), "every host"),
        (Wish(urls=["http://h/static/a.css"]), "nothing is cached"),
        (Wish(urls=["http://h/"], tags=[""]), "--all"),
    ],
)
def test_what_names_nothing_purges_nothing(wish: Wish, hint: str, site: Setting) -> None:
    with pytest.raises(CommandError, match=hint):
        purge(site, wish)
    assert not (site.folder / PURGES).exists()


def test_a_url_without_a_route_is_an_error(folder: Path) -> None:
    (folder / "proxy.toml").write_text('[[route]]\npath = "/b"\nfiles = "static"\n')
    with pytest.raises(CommandError, match="no route"):
        purge(setting(folder / "proxy.toml"), Wish(urls=["http://h/a"]))


def test_the_count_on_disk_is_told(site: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    site.folder.mkdir(parents=True)
    index = Index(site.folder)
    keys = ["http://h/a", "http://h/a cookie:x=1", "http://h/ab"]
    index.add([Found(bytes([at]) * 16, 10, 1) for at, _ in enumerate(keys)])
    index.describe(
        (row.id, Described(10, key=key, status=200, tags=("t",)))
        for at, key in enumerate(keys)
        for row in index.named([bytes([at]) * 16])
    )
    index.close()
    wish = Wish(urls=["http://h/a"], prefixes=["http://h/"], tags=["t"], everything=True)
    assert purge(site, wish) == [
        "purged: all (3 on disk)",
        "purged: url http://h/a (2 on disk)",
        "purged: url https://h/a (0 on disk)",
        "purged: prefix http://h/ (3 on disk)",
        "purged: tag t (3 on disk)",
    ]
    monkeypatch.setattr(purging, "COUNTED", 2)
    assert purge(site, Wish(tags=["t"])) == ["purged: tag t (at least 2 on disk)"]
    (site.folder / "index.sqlite").write_bytes(b"x" * 9000)
    assert purge(site, Wish(tags=["t"])) == ["purged: tag t"]
