"""Honest Cache-Control: three policies by name, and no-store for whoever names none."""

from flask import Response, make_response, request
from flask.typing import ResponseReturnValue

SHARED = "public, max-age=2, stale-while-revalidate=30"
"""The same bytes for everybody, and two seconds old is new enough."""

AT_THE_SERVER = "max-age=30, stale-while-revalidate=60"
"""What the cache before the application may do (CDN-Cache-Control, RFC 9213): it keeps longer than
a browser, because it is told when something changes (Cache-Groups, RFC 9875)."""

CHECKED = "private, no-cache"
"""Kept by the browser alone, which asks again every time; the ETag makes that cheap."""

PERSONAL = "private, no-store"
"""One person's; kept nowhere."""


def posts_group() -> str:
    """Return the group of all pages that show everybody's posts."""
    return "posts"


def profile_group(name: str) -> str:
    """Return the group of all pages about one person."""
    return f"profile-{name}"


def shared(content: ResponseReturnValue, *groups: str) -> Response:
    """Return the content as everybody's, with an ETag; 304 when the client has it already.

    It is in `groups`, and is asked for again once something has changed in one of them.
    """
    response = make_response(content)
    response.headers["Cache-Control"] = SHARED
    response.headers["CDN-Cache-Control"] = AT_THE_SERVER
    response.headers["Cache-Groups"] = _listed(groups)
    response.add_etag()
    response.make_conditional(request)
    return response


def personal(content: ResponseReturnValue) -> Response:
    """Return the content as one person's."""
    response = make_response(content)
    response.headers["Cache-Control"] = PERSONAL
    return response


def changing(response: Response, *groups: str) -> Response:
    """Say that something has changed in `groups`; only the answer to a POST is believed."""
    response.headers["Cache-Group-Invalidation"] = _listed(groups)
    return response


def _listed(groups: tuple[str, ...]) -> str:
    return ", ".join(f'"{group}"' for group in groups)


def default_to_no_store(response: Response) -> Response:
    """Forbid to keep an answer whose endpoint did not say; errors and redirects among them."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response
