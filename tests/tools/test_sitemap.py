"""Lists of URLs and sitemaps."""

import gzip

import pytest

from proxy.errors import CommandError
from proxy.tools import sitemap
from proxy.tools.sitemap import read_list

URLS = (
    b'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    b"<url><loc> http://h/a?b&amp;c </loc><priority>1</priority></url>"
    b"<url><image:image xmlns:image='i'><image:loc>http://h/no</image:loc></image:image>"
    b"<loc>http://h/b</loc></url></urlset>"
)
INDEX = b"<sitemapindex><sitemap><loc>http://h/1.xml</loc></sitemap></sitemapindex>"


def test_a_list_has_a_url_on_each_line() -> None:
    listed = read_list(b"\xef\xbb\xbf# front\nhttp://h/a\r\n\n http://h/b \n", "list")
    assert listed == (["http://h/a", "http://h/b"], [])


def test_a_sitemap_names_urls() -> None:
    assert read_list(b"\xef\xbb\xbf \n" + URLS, "s.xml") == (["http://h/a?b&c", "http://h/b"], [])


def test_an_index_names_sitemaps() -> None:
    assert read_list(INDEX, "s.xml") == ([], ["http://h/1.xml"])


def test_a_packed_sitemap_is_unpacked() -> None:
    assert read_list(gzip.compress(URLS), "s.xml.gz").urls == ["http://h/a?b&c", "http://h/b"]


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (URLS[:-4], "no sitemap"),
        (b'<!DOCTYPE a [<!ENTITY b "b">]><urlset/>', "entities"),
        (gzip.compress(URLS, mtime=0)[:30], "unpacked"),
        (b"\x1f\x8b\x08nothing", "unpacked"),
    ],
)
def test_what_cannot_be_read_is_an_error(data: bytes, hint: str) -> None:
    with pytest.raises(CommandError, match=hint):
        read_list(data, "s.xml")


def test_a_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemap, "MOST_URLS", 1)
    with pytest.raises(CommandError, match="cut it in parts"):
        read_list(URLS, "s.xml")
    monkeypatch.setattr(sitemap, "MOST_BYTES", 10)
    with pytest.raises(CommandError, match="50 MiB"):
        read_list(gzip.compress(URLS), "s.xml.gz")
