"""Compresses a file's content once; blocking, called in threads only.

Levels are where a further one costs much more time than it saves bytes (1 MiB of JavaScript: 40 to
60 ms each); Caddy and nginx, which compress for every request, stay below them.
"""

import zlib
from collections.abc import Iterable

import brotli
import zstandard

BROTLI_QUALITY = 6
ZSTANDARD_LEVEL = 9
GZIP_LEVEL = 6
GZIP_WINDOW = 31  # zlib's 15 for 32 KiB, and 16 for gzip's wrapper


def compress(data: bytes, coding: bytes) -> bytes:
    """Encode `data` in one of `negotiation.CODINGS`; the same data gives the same bytes."""
    match coding:
        case b"br":
            return bytes(brotli.compress(data, mode=brotli.MODE_TEXT, quality=BROTLI_QUALITY))
        case b"zstd":
            return zstandard.ZstdCompressor(level=ZSTANDARD_LEVEL).compress(data)
        case b"gzip":
            return zlib.compress(data, GZIP_LEVEL, GZIP_WINDOW)
        case _:
            raise ValueError(coding)


def compress_all(data: bytes, codings: Iterable[bytes], min_bytes: int) -> dict[bytes, bytes]:
    """Encode `data` in each of `codings`, leaving out those that do not make it smaller.

    Data of less than `min_bytes` is not encoded at all.
    """
    if len(data) < min_bytes:
        return {}
    encoded = {coding: compress(data, coding) for coding in codings}
    return {coding: result for coding, result in encoded.items() if len(result) < len(data)}
