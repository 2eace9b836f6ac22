"""Entries for tests."""

from typing import Any

from proxy.cache.entry import Entry
from proxy.message import FieldLine, Fields


def entry(
    key: bytes = b"http://a/",
    body: Any = b"content",
    lines: tuple[FieldLine, ...] = ((b"Content-Type", b"text/plain"), (b"ETag", b'"1"')),
    **others: Any,
) -> Entry:
    """Return an entry that was born at 100 and is fresh until 160, with `others` in place."""
    values: dict[str, Any] = {
        "key": key,
        "status": 200,
        "fields": Fields(lines),
        "body": body,
        "request_at": 1_700_000_000.0,
        "response_at": 1_700_000_001.0,
        "born_at": 100.0,
        "fresh_until": 160.0,
        "swr_until": 170.0,
        "sie_until": 200.0,
        "keep_until": 1000.0,
    }
    return Entry(**values | others)
