"""Content-Type by file name."""

import mimetypes

import pytest

from proxy.files.media_types import content_type, is_compressible, media_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("STYLE.CSS", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.3f2a9c1b.mjs", "text/javascript; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("data.json", "application/json"),
        ("app.js.map", "application/json"),
        ("feed.xml", "application/xml"),
        ("logo.svg", "image/svg+xml"),
        ("site.webmanifest", "application/manifest+json"),
        ("module.wasm", "application/wasm"),
        ("font.woff2", "font/woff2"),
        ("picture.avif", "image/avif"),
        ("picture.webp", "image/webp"),
        ("archive.tar.gz", "application/gzip"),
        ("letter.doc", "application/msword"),  # from Python's defaults
        ("README", "application/octet-stream"),
        ("strange.xyzzy", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("dot.", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_content_types(name: str, expected: str) -> None:
    assert content_type(name, "utf-8") == expected


def test_without_a_charset_none_is_named() -> None:
    assert content_type("index.html", "") == "text/html"


def test_another_charset_can_be_named() -> None:
    assert content_type("index.html", "iso-8859-1") == "text/html; charset=iso-8859-1"


def test_what_the_host_adds_to_mimetypes_changes_nothing() -> None:
    mimetypes.add_type("application/x-evil", ".css")
    mimetypes.add_type("application/x-evil", ".xyzzy")
    try:
        assert media_type("a.css") == "text/css"
        assert media_type("a.xyzzy") == "application/octet-stream"
    finally:
        mimetypes.init()


@pytest.mark.parametrize(
    "found",
    ["text/html", "text/css", "application/json", "image/svg+xml", "application/wasm", "font/ttf"],
)
def test_text_is_worth_compressing(found: str) -> None:
    assert is_compressible(found)


@pytest.mark.parametrize(
    "found", ["image/png", "font/woff2", "video/mp4", "application/zip", "application/octet-stream"]
)
def test_what_is_compressed_already_is_not(found: str) -> None:
    assert not is_compressible(found)
