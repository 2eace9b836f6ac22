"""The page that shows a folder. Pure."""

from datetime import UTC, datetime
from html import escape
from urllib.parse import quote_from_bytes, unquote_to_bytes

from proxy.files.disk import Entry, Listing

CONTENT_SECURITY_POLICY = b"default-src 'none'; style-src 'unsafe-inline'"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --line: color-mix(in srgb, currentColor 14%, transparent); }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 3rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }}
table {{ width: 100%; border-collapse: collapse; }}
th {{ text-align: left; font-size: .8rem; font-weight: 500; opacity: .6; }}
th, td {{ padding: .4rem .6rem; border-bottom: 1px solid var(--line); }}
td:first-child {{ overflow-wrap: anywhere; }}
th:nth-child(n+2), td:nth-child(n+2) {{ text-align: right; white-space: nowrap; }}
td:nth-child(n+2) {{ opacity: .7; font-variant-numeric: tabular-nums; }}
tbody tr:hover {{ background: var(--line); }}
a {{ color: inherit; text-decoration-color: var(--line); text-underline-offset: .2em; }}
.folder a {{ font-weight: 600; }}
p {{ opacity: .6; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
<thead><tr><th>Name</th><th>Size</th><th>Changed (UTC)</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
{note}
</body>
</html>
"""

PARENT = '<tr class="folder"><td><a href="../">..</a></td><td></td><td></td></tr>'


def render_listing(path: bytes, listing: Listing, *, has_parent: bool) -> bytes:
    """Return the page for a folder; `path` is the request's, percent-encoded, for the title."""
    rows = [PARENT] if has_parent else []
    rows += [_row(entry) for entry in listing.entries]
    title = escape(_text(unquote_to_bytes(path)))
    return PAGE.format(title=title, rows="\n".join(rows), note=_note(listing)).encode()


def _note(listing: Listing) -> str:
    count = len(listing.entries)
    if not listing.is_complete:
        return f"<p>These are {count} of the entries; there are more than fit here.</p>"
    return "" if count else "<p>Nothing here.</p>"


def _row(entry: Entry) -> str:
    slash = "/" if entry.is_folder else ""
    # quote leaves no colon, so that no name can be taken for a scheme.
    address = quote_from_bytes(entry.name, safe="") + slash
    name = escape(_text(entry.name)) + slash
    size = "" if entry.size_bytes is None else _size(entry.size_bytes)
    when = "" if entry.modified_at is None else _when(entry.modified_at)
    kind = ' class="folder"' if entry.is_folder else ""
    return f'<tr{kind}><td><a href="{address}">{name}</a></td><td>{size}</td><td>{when}</td></tr>'


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _when(modified_at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(modified_at, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):  # a file system may hold any number
        return ""


def _size(size_bytes: int) -> str:
    """Write a size for people, in binary units."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
