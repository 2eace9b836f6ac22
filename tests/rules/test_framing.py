"""A body ends where its fields say so without doubt, or the message is refused. RFC 9112 §6."""

import pytest

from proxy.errors import BadRequestError, HttpError, NotImplementedMethodError
from proxy.message import Fields
from proxy.rules.framing import CHUNKED, UNTIL_CLOSE, request_framing, response_framing

CL = b"Content-Length"
TE = b"Transfer-Encoding"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], 0),
        ([(CL, b"0")], 0),
        ([(CL, b"42")], 42),
        ([(CL, b"007")], 7),
        ([(TE, b"chunked")], CHUNKED),
        ([(TE, b"Chunked")], CHUNKED),
        ([(TE, b" chunked ")], CHUNKED),
    ],
)
def test_a_request_body_has_a_length_or_is_chunked(
    lines: list[tuple[bytes, bytes]], expected: int
) -> None:
    assert request_framing(1, Fields(lines)) == expected


@pytest.mark.parametrize(
    ("minor", "lines", "error"),
    [
        (1, [(CL, b"5"), (TE, b"chunked")], BadRequestError),  # §6.1
        (0, [(TE, b"chunked")], BadRequestError),  # §6.1
        (1, [(CL, b"5"), (CL, b"6")], BadRequestError),  # §6.3
        (1, [(CL, b"5"), (CL, b"5")], BadRequestError),
        (1, [(CL, b"")], BadRequestError),
        (1, [(CL, b"+5")], BadRequestError),
        (1, [(CL, b"5_0")], BadRequestError),
        (1, [(CL, b"\xd9\xa5")], BadRequestError),
        (1, [(CL, b"9" * 19)], BadRequestError),
        (1, [(TE, b"gzip")], BadRequestError),
        (1, [(TE, b"identity")], BadRequestError),
        (1, [(TE, b"chunked, gzip")], BadRequestError),
        (1, [(TE, b"chunked, chunked")], BadRequestError),
        (1, [(TE, b"chunked"), (TE, b"chunked")], BadRequestError),
        (1, [(TE, b"chunked"), (TE, b"identity")], BadRequestError),
        (1, [(TE, b"x@y, chunked")], BadRequestError),
        (1, [(TE, b", chunked")], BadRequestError),
        (1, [(TE, b"")], BadRequestError),
        (1, [(TE, b"\x0bchunked")], BadRequestError),
        (1, [(TE, b"gzip, chunked")], NotImplementedMethodError),
        (1, [(TE, b"xchunked, chunked")], NotImplementedMethodError),
    ],
)
def test_framing_in_doubt_is_refused(
    minor: int, lines: list[tuple[bytes, bytes]], error: type[HttpError]
) -> None:
    with pytest.raises(error):
        request_framing(minor, Fields(lines))
    with pytest.raises(error):
        response_framing(b"GET", 200, minor, Fields(lines))


@pytest.mark.parametrize(
    ("method", "status", "lines", "expected"),
    [
        (b"GET", 200, [], UNTIL_CLOSE),
        (b"GET", 200, [(CL, b"7")], 7),
        (b"GET", 200, [(TE, b"chunked")], CHUNKED),
        (b"HEAD", 200, [(CL, b"7")], 0),
        (b"HEAD", 200, [(TE, b"chunked")], 0),
        (b"GET", 304, [(CL, b"7")], 0),
        (b"GET", 204, [], 0),
        (b"GET", 101, [], 0),
        (b"GET", 103, [], 0),
    ],
)
def test_a_response_body_ends_as_its_request_and_status_say(
    method: bytes, status: int, lines: list[tuple[bytes, bytes]], expected: int
) -> None:
    assert response_framing(method, status, 1, Fields(lines)) == expected
