"""Decides where the body of a message ends. RFC 9112 §6.

Pure. A body's length is what request smuggling lies about, so every doubt is an error.
"""

import re
from typing import Final

from proxy.errors import BadRequestError, NotImplementedMethodError
from proxy.message import Fields

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

# 18 digits are an exabyte, and fit the signed 64 bits of whatever stands behind us.
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")


def request_framing(minor_version: int, fields: Fields) -> int:
    """Return the length of a request's body in bytes, or CHUNKED. RFC 9112 §6.3.

    Raises BadRequestError, and NotImplementedMethodError for a coding other than chunked.
    """
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is None:
        return 0 if length is None else _content_length(length)
    _check_coding(coding, length, minor_version)
    return CHUNKED


def response_framing(method: bytes, status: int, minor_version: int, fields: Fields) -> int:
    """Return the length of a response's body in bytes, CHUNKED or UNTIL_CLOSE. RFC 9112 §6.3.

    `method` is the request's. Raises BadRequestError; a NotImplementedMethodError for a coding
    other than chunked.
    """
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        _check_coding(coding, length, minor_version)
    elif length is not None:
        size = _content_length(length)
    if method == b"HEAD" or status < 200 or status in {204, 304}:
        return 0
    if coding is not None:
        return CHUNKED
    return UNTIL_CLOSE if length is None else size


def _content_length(value: bytes) -> int:
    if _LENGTH.fullmatch(value) is None:
        raise BadRequestError(f"malformed Content-Length: {value[:64]!r}")
    return int(value)


def _check_coding(coding: bytes, length: bytes | None, minor_version: int) -> None:
    if length is not None:
        raise BadRequestError("both Content-Length and Transfer-Encoding")
    if minor_version == 0:
        raise BadRequestError("Transfer-Encoding in an HTTP/1.0 message")
    if coding == b"chunked":
        return
    codings = [part.strip(b" \t") for part in coding.lower().split(b",")]
    if codings == [b"chunked"]:
        return
    others = codings[:-1]
    if codings[-1] != b"chunked" or b"chunked" in others or not all(map(_TOKEN.fullmatch, others)):
        raise BadRequestError(f"Transfer-Encoding does not end in one chunked: {coding[:64]!r}")
    raise NotImplementedMethodError(f"Transfer-Encoding {coding[:64]!r}: only chunked is known")
