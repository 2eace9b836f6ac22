"""Tags: names under which an upstream wants its answers purged together. Pure.

Cache-Tag is Cloudflare's and Akamai's field, a list with commas; Surrogate-Key is Fastly's, and
xkey that of Varnish, both words with blanks between them. Letters keep their case, as there.
"""

from typing import Final

from proxy.message import Fields

TAG_FIELDS: Final = frozenset((b"cache-tag", b"surrogate-key", b"xkey"))
_BLANKS: Final = b" \t"

# Cloudflare takes 1,000 tags of 1,024 octets, Fastly 16 KiB of keys of 1,024 octets.
MOST_TAGS: Final = 1000
LONGEST_TAG_BYTES: Final = 1024


def tags_of(fields: Fields) -> tuple[bytes, ...]:
    """Return the tags of an answer, each once, in order; those over the limits are left out."""
    return tuple(tag for tag in _all_tags(fields) if len(tag) <= LONGEST_TAG_BYTES)[:MOST_TAGS]


def tags_fit(fields: Fields) -> bool:
    """Say whether `tags_of` returns every tag: what a purge by tag would miss is not to be kept."""
    tags = _all_tags(fields)
    return len(tags) <= MOST_TAGS and all(len(tag) <= LONGEST_TAG_BYTES for tag in tags)


def _all_tags(fields: Fields) -> list[bytes]:
    if not fields.has_any(TAG_FIELDS):
        return []
    found: dict[bytes, None] = {}
    for tag in (fields.get(b"cache-tag") or b"").split(b","):
        found[tag.strip(_BLANKS)] = None
    for name in (b"surrogate-key", b"xkey"):
        for line in fields.get_all(name):
            found.update(dict.fromkeys(line.split()))
    found.pop(b"", None)
    return list(found)
