"""What a request brings, and what is answered: JSON."""

from typing import TypeVar

import msgspec
from aiohttp import web

from proxy.control.guard import refusal

StructT = TypeVar("StructT", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode


async def content_of(request: web.Request, kind: type[StructT]) -> StructT:
    """Return the content of a request; without any, what it means to say nothing.

    Raises HTTPException.
    """
    content = await request.read()
    if not content.strip():
        content = b"{}"
    elif request.content_type != "application/json":
        raise refusal(
            web.HTTPUnsupportedMediaType, "send JSON, with `Content-Type: application/json`"
        )
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refusal(web.HTTPBadRequest, f"the content is not what is wanted: {error}") from None


def answer(value: object, status: int = 200) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(body=_encode(value) + b"\n", status=status, content_type="application/json")
