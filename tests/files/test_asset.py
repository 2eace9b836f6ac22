"""Names and fields of a file's representations."""

import pytest

from proxy.files.asset import IMMUTABLE, cache_control_for, with_headers
from proxy.files.options import CatalogOptions


@pytest.mark.parametrize(
    "name",
    [
        "app.3f2a9c1b.js",
        "app-3f2a9c1b.js",
        "app.3f2a9c1b.js.map",
        "main.3f2a9c1b.chunk.css",
        "base.55e7cbb9ba48.css",
        "index-BkT4h9xQ.js",
        "vendor.a1B2c3D4e5.woff2",
        "a-b-c.deadbeef1.png",
    ],
)
def test_fingerprinted_names_are_kept_for_a_year(name: str) -> None:
    assert cache_control_for(name, CatalogOptions()) == IMMUTABLE


@pytest.mark.parametrize(
    "name",
    [
        "app.js",
        "app.3f2a9c1.js",  # seven
        "report-20240101.pdf",
        "photo.12345678.jpg",
        "chart-version2.js",
        "a.deadbeef.js",  # a word
        "app.3f2a9c1b",  # no extension
        "3f2a9c1b.js",  # nothing before it
        ".3f2a9c1b.js",
        "app-MyModule2.js",
        "app-mymodule2x.js",
        "app.3f2a9c1g.js",
        "app3f2a9c1b.js",
        "jquery-3.7.1.min.js",
        "index.html",
    ],
)
def test_other_names_are_asked_for_again(name: str) -> None:
    assert cache_control_for(name, CatalogOptions()) == "no-cache"


def test_what_browsers_are_told_can_be_chosen() -> None:
    options = CatalogOptions(cache_control="max-age=60", immutable=False)
    assert cache_control_for("app.3f2a9c1b.js", options) == "max-age=60"


def test_configured_headers_replace_ours_but_only_add_to_vary() -> None:
    ours = [(b"ETag", b'"x"'), (b"Cache-Control", b"no-cache"), (b"Vary", b"Accept-Encoding")]
    theirs = ((b"cache-control", b"private"), (b"Vary", b"Origin"), (b"X-Frame-Options", b"DENY"))
    assert with_headers(ours, theirs) == [
        (b"ETag", b'"x"'),
        (b"Vary", b"Accept-Encoding"),
        (b"cache-control", b"private"),
        (b"Vary", b"Origin"),
        (b"X-Frame-Options", b"DENY"),
    ]
