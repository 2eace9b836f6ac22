"""Chooses what of an asset answers a request: which representation, all of it or a part, or a 304.

Ranges are taken from the representation that the client would get without them, so that one that
broke off in brotli goes on in brotli. Several ranges at once are given of the plain file only: a
multipart body has no place to say how its parts are coded. Of a coded one they are ignored.
"""

import secrets
from collections.abc import Callable
from typing import NamedTuple

from proxy.errors import PreconditionFailedError, RangeNotSatisfiableError
from proxy.files.asset import Asset, Representation
from proxy.message import FieldLine, Fields, Response
from proxy.rules.conditional import Outcome, evaluate, if_range_holds
from proxy.rules.negotiation import IDENTITY, choose_coding
from proxy.rules.ranges import (
    Span,
    content_range,
    multipart_heads,
    parse_range,
    unsatisfied_range,
)


class Streamed(NamedTuple):
    """An answer whose body has still to be opened: `pieces` of the file of `representation`."""

    representation: Representation
    status: int
    fields: list[FieldLine]
    pieces: list[bytes | Span]


def answer(
    asset: Asset, method: bytes, fields: Fields, wall_time: Callable[[], float]
) -> Response | Streamed:
    """Answer GET or HEAD with what `asset` holds.

    Raises PreconditionFailedError and RangeNotSatisfiableError.
    """
    get = fields.get
    representation = asset.representations[
        choose_coding(get(b"accept-encoding"), asset.codings) if asset.codings else IDENTITY
    ]
    if (
        get(b"if-none-match") is not None
        or get(b"if-modified-since") is not None
        or get(b"if-match") is not None
        or get(b"if-unmodified-since") is not None
    ):
        outcome = evaluate(
            method, fields, representation.etag, representation.last_modified, int(wall_time())
        )
        if outcome is Outcome.NOT_MODIFIED:
            return representation.not_modified
        if outcome is Outcome.PRECONDITION_FAILED:
            raise PreconditionFailedError("a precondition of the request does not hold")
    if method == b"HEAD":
        return representation.head
    wanted = get(b"range")
    if wanted is not None:
        part = _part(representation, wanted, get(b"if-range"), wall_time)
        if part is not None:
            return part
    return representation.whole or Streamed(
        representation, 200, representation.fields, [Span(0, representation.length)]
    )


def _part(
    representation: Representation,
    wanted: bytes,
    if_range: bytes | None,
    wall_time: Callable[[], float],
) -> Response | Streamed | None:
    """Answer a Range, None when it is to be ignored. RFC 9110 §14.2, §15.3.7."""
    length = representation.length
    if if_range is not None and not if_range_holds(
        if_range, representation.etag, representation.last_modified, int(wall_time())
    ):
        return None
    spans = parse_range(wanted, length)
    if spans is None:
        return None
    if not spans:
        raise RangeNotSatisfiableError(
            f"no such ranges, or too many, of {length} bytes: {wanted[:64]!r}",
            ((b"Content-Range", unsatisfied_range(length)),),
        )
    if len(spans) == 1:
        (span,) = spans
        fields = [*representation.fields, (b"Content-Range", content_range(span, length))]
        return _partial(representation, fields, [span])
    if representation.coding != IDENTITY:
        return None
    boundary = secrets.token_hex(12).encode()
    heads = multipart_heads(spans, length, representation.content_type, boundary)
    pieces: list[bytes | Span] = [heads[0]]
    for span, head in zip(spans, heads[1:], strict=True):
        pieces += [span, head]
    fields = [line for line in representation.fields if line[0].lower() != b"content-type"]
    fields.append((b"Content-Type", b"multipart/byteranges; boundary=" + boundary))
    return _partial(representation, fields, pieces)


def _partial(
    representation: Representation, fields: list[FieldLine], pieces: list[bytes | Span]
) -> Response | Streamed:
    body = representation.body
    if body is None:
        return Streamed(representation, 206, fields, pieces)
    return Response(
        206,
        fields,
        b"".join(
            piece if isinstance(piece, bytes) else body[piece.first : piece.stop]
            for piece in pieces
        ),
    )
