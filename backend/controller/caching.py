"""Honest Cache-Control: three policies by name, and no-store for whoever names none."""

from flask import Response, make_response, request
from flask.typing import ResponseReturnValue

SHARED = "public, max-age=2, stale-while-revalidate=30"
"""The same bytes for everybody, and two seconds old is new enough."""

CHECKED = "private, no-cache"
"""Kept by the browser alone, which asks again every time; the ETag makes that cheap."""

PERSONAL = "private, no-store"
"""One person's; kept nowhere."""


def shared(content: ResponseReturnValue) -> Response:
    """Return the content as everybody's, with an ETag; 304 when the client has it already."""
    response = make_response(content)
    response.headers["Cache-Control"] = SHARED
    response.add_etag()
    response.make_conditional(request)
    return response


def personal(content: ResponseReturnValue) -> Response:
    """Return the content as one person's."""
    response = make_response(content)
    response.headers["Cache-Control"] = PERSONAL
    return response


def default_to_no_store(response: Response) -> Response:
    """Forbid to keep an answer whose endpoint did not say; errors and redirects among them."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response
