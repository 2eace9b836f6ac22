"""Compressing once: what comes out can be read back, and is smaller."""

import os
import zlib

import brotli
import pytest
import zstandard

from proxy.files.compress import compress, compress_all
from proxy.rules.negotiation import CODINGS

TEXT = b"It was the best of times, it was the worst of times. " * 100


def decompress(data: bytes, coding: bytes) -> bytes:
    if coding == b"br":
        return bytes(brotli.decompress(data))
    if coding == b"zstd":
        return zstandard.ZstdDecompressor().decompress(data)
    return zlib.decompress(data, 31)


@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_can_be_read_back(coding: bytes) -> None:
    encoded = compress(TEXT, coding)
    assert len(encoded) < len(TEXT)
    assert decompress(encoded, coding) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
def test_the_same_text_gives_the_same_bytes_in_every_worker(coding: bytes) -> None:
    assert compress(TEXT, coding) == compress(TEXT, coding)


def test_an_unknown_coding_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="deflate"):
        compress(TEXT, b"deflate")


def test_all_codings_that_were_asked_for_are_made() -> None:
    assert set(compress_all(TEXT, CODINGS, 1000)) == set(CODINGS)
    assert set(compress_all(TEXT, [b"gzip"], 1000)) == {b"gzip"}


def test_what_does_not_get_smaller_is_left_out() -> None:
    assert compress_all(os.urandom(5000), CODINGS, 1000) == {}


def test_small_files_are_left_alone() -> None:
    assert compress_all(b"a" * 999, CODINGS, 1000) == {}
    assert compress_all(b"a" * 1000, CODINGS, 1000) != {}
