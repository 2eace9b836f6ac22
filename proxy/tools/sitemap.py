"""Reads what is to be warmed: a list of URLs, or a sitemap (sitemaps.org/protocol.html). Pure."""

import gzip
import io
import zlib
from typing import NamedTuple
from xml.parsers import expat

from proxy.errors import CommandError

# The protocol's own bounds: 50,000 URLs and 50 MiB in one sitemap.
MOST_URLS = 50_000
MOST_BYTES = 50 << 20

_GZIP = b"\x1f\x8b"


class Listed(NamedTuple):
    """The URLs of a list, and those of further sitemaps that it names."""

    urls: list[str]
    sitemaps: list[str]


def read_list(data: bytes, name: str) -> Listed:
    """Return what a list, a sitemap or an index of sitemaps names. Raises CommandError.

    `name` is what the person called it. A list has a URL on each line; "#" begins a comment.
    """
    data = unpacked(data, name)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return read_sitemap(data.lstrip(b"\xef\xbb\xbf \t\r\n"), name)
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    return Listed(bounded([line for line in lines if line and not line.startswith("#")], name), [])


def unpacked(data: bytes, name: str) -> bytes:
    """Return the content, unpacked when it is packed by gzip; bounded either way."""
    if data.startswith(_GZIP):
        try:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise CommandError(f"{name} cannot be unpacked: {error}") from None
    if len(data) > MOST_BYTES:
        raise CommandError(f"{name} is larger than 50 MiB, which no sitemap is; cut it in parts")
    return data


class _Reader:
    """Collects the <loc> of each <url> and <sitemap>."""

    def __init__(self) -> None:
        self.found = Listed([], [])
        self._path: list[str] = []
        self._text: list[str] = []

    def start(self, name: str, _attributes: object) -> None:
        self._path.append(name.rpartition(":")[2])
        self._text = []

    def text(self, data: str) -> None:
        self._text.append(data)

    def end(self, _name: str) -> None:
        if self._path[-2:] == ["url", "loc"]:
            self.found.urls.append("".join(self._text).strip())
        elif self._path[-2:] == ["sitemap", "loc"]:
            self.found.sitemaps.append("".join(self._text).strip())
        self._path.pop()


def read_sitemap(data: bytes, name: str) -> Listed:
    """Return what an XML sitemap names; entities of its own, a way to exhaust memory, are refused.

    Raises CommandError.
    """
    reader = _Reader()
    parser = expat.ParserCreate()

    def refuse(*_declaration: object) -> None:
        raise CommandError(f"{name} declares entities, which no sitemap needs")

    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise CommandError(f"{name} is no sitemap: {error}") from None
    bounded(reader.found.urls, name)
    bounded(reader.found.sitemaps, name)
    return reader.found


def bounded(urls: list[str], name: str) -> list[str]:
    """Return a list that is not too long; raises CommandError."""
    if len(urls) > MOST_URLS:
        raise CommandError(f"{name} has {len(urls)} URLs; {MOST_URLS} go at once, cut it in parts")
    return urls
