"""The step that answers from files. What is in memory is answered at once, without a task."""

import asyncio
import time
from typing import Final

from proxy.errors import MethodNotAllowedError, OverloadedError
from proxy.files.answer import answer
from proxy.files.asset import Asset, with_headers
from proxy.files.catalog import ATTEMPTS, Catalog
from proxy.files.disk import Listing
from proxy.files.file_source import FileSource
from proxy.files.listing import CONTENT_SECURITY_POLICY, render_listing
from proxy.message import FieldLine, Request, Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route

ALLOW: Final = (b"Allow", b"GET, HEAD, OPTIONS")


def static(exchange: Exchange) -> Step | Wait:
    """Answer with the file that the path names below the route's root."""
    request = exchange.request
    route = exchange.route
    if route is None or route.catalog is None:
        raise RuntimeError("static on a route without files")
    catalog = route.catalog
    method = request.method
    if method not in {b"GET", b"HEAD"}:
        exchange.response = other_method(method, catalog)
        return respond
    path = request.path
    if len(path) < len(route.prefix):  # "/static" on a route for "/static/*"
        exchange.response = to_folder(request, catalog)
        return respond
    key = path[len(route.prefix) :] if route.prefix else exact_key(route)
    asset = catalog.held(key)
    if asset is not None:
        answered = answer(asset, method, request.fields, time.time)
        if type(answered) is Response:
            exchange.response = answered
            return respond
    return Wait(look(exchange, catalog, key))


def exact_key(route: Route) -> bytes:
    """Return the file of a route for one path: it bears the last segment as its name."""
    return route.exact.rpartition(b"/")[2]


async def look(exchange: Exchange, catalog: Catalog, key: bytes) -> Step:
    """Answer with what the disk has to say, or to give."""
    request = exchange.request
    for _ in range(ATTEMPTS):
        found = await catalog.find(key)
        if not isinstance(found, Asset):
            exchange.response = (
                await listing(request, catalog, key, found)
                if isinstance(found, Listing)
                else to_folder(request, catalog)
            )
            return respond
        answered = answer(found, request.method, request.fields, time.time)
        if isinstance(answered, Response):
            exchange.response = answered
            return respond
        file = await catalog.open(answered.representation)
        if file is not None:
            source = FileSource(file, answered.pieces)
            exchange.response = Response(answered.status, answered.fields, source)
            return respond
        catalog.forget(found.key)
    raise OverloadedError("a file changes faster than it can be sent", ((b"Retry-After", b"1"),))


def other_method(method: bytes, catalog: Catalog) -> Response:
    """Answer OPTIONS, refuse the rest. RFC 9110 §9.3.7, §15.5.6."""
    if method == b"OPTIONS":
        return Response(204, with_headers([ALLOW], catalog.options.headers))
    raise MethodNotAllowedError(f"{method!r} on a file", (ALLOW,))


def to_folder(request: Request, catalog: Catalog) -> Response:
    """Send the client to the same path with a slash at its end.

    The Location is a path on this host whatever the request looked like: two slashes in front,
    or a slash and a backslash, would name another one to a browser.
    """
    location = b"/" + request.path.replace(b"\\", b"%5C").lstrip(b"/") + b"/"
    if request.query is not None:
        location += b"?" + request.query
    fields = _described((b"Location", location), catalog=catalog)
    return Response(301, fields, b"")


async def listing(request: Request, catalog: Catalog, key: bytes, found: Listing) -> Response:
    """Show a folder; the page is made in a thread, since it may be long."""
    page = await asyncio.get_running_loop().run_in_executor(
        None, lambda: render_listing(request.path, found, has_parent=bool(key))
    )
    fields = _described(
        (b"Content-Type", b"text/html; charset=utf-8"),
        (b"Content-Security-Policy", CONTENT_SECURITY_POLICY),
        catalog=catalog,
    )
    if request.method == b"HEAD":
        return Response(200, fields, content_length=len(page))
    return Response(200, fields, page)


def _described(*lines: FieldLine, catalog: Catalog) -> list[FieldLine]:
    """Add the route's fields to the answer for a folder, which is to be asked for again."""
    options = catalog.options
    return with_headers([*lines, (b"Cache-Control", b"no-cache")], options.headers)
