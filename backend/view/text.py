"""What templates do to text, times and sizes. Pure."""

import datetime
import re

from markupsafe import Markup, escape

# An address ends before punctuation that closes the sentence; a name as in users.NAME_PATTERN.
# static/js/timeline.js has the same two for posts that arrive live.
_LINK = re.compile(
    r"(?P<url>https?://[^\s<>\"“”]*[^\s<>\"“”.,;:!?)])|(?<![\w@])@(?P<name>[a-z0-9_]{2,20})\b"
)
_KIB = 1024


def rich(text: str) -> Markup:
    """Return the text as HTML: escaped, with addresses and @names as links."""
    html = Markup()
    end = 0
    for match in _LINK.finditer(text):
        html += escape(text[end : match.start()]) + _link(match)
        end = match.end()
    return html + escape(text[end:])


def _link(match: re.Match[str]) -> Markup:
    url = match["url"]
    if url is not None:
        shown = url.partition("://")[2]
        return Markup('<a href="{}" rel="nofollow ugc">{}</a>').format(url, shown)
    return Markup('<a href="/u/{0}">@{0}</a>').format(match["name"])


def iso(epoch_s: int) -> str:
    """Return the time as HTML's <time datetime> wants it."""
    return _utc(epoch_s).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(epoch_s: int) -> str:
    """Return day and time for people.

    It is absolute, because public pages are cached; the script turns it into “5 min”.
    """
    at = _utc(epoch_s)
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def day(epoch_s: int) -> str:
    """Return month and year for people."""
    return f"{_utc(epoch_s):%B %Y}"


def file_size(size_bytes: int) -> str:
    """Return a size for people, in units of 1024."""
    if size_bytes < _KIB:
        return f"{size_bytes} bytes"
    size = size_bytes / _KIB
    for unit in ("KiB", "MiB"):
        if size < _KIB:
            return f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} GiB"


def _utc(epoch_s: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC)
