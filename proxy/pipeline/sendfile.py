"""Sends the file that an application names in the place of its own content.

    application ──X-Sendfile: /srv/private/a.pdf───────┐
                ──X-Accel-Redirect: /protected/a.pdf ──┴──→ below an allowed folder? ──→ the file

The status and the fields are the application's, the content with its validators and ranges is the
file's, by the same machinery as static files. What is stored is what is sent.
"""

import logging
import os
import time
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import NotFoundError, OverloadedError
from proxy.files.answer import Streamed, answer
from proxy.files.asset import Asset, Representation
from proxy.files.catalog import ATTEMPTS, Catalog
from proxy.files.file_source import FileSource
from proxy.message import FieldLine, Fields, Response
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.leftover import let_go
from proxy.pipeline.respond import respond
from proxy.rules.negotiation import IDENTITY
from proxy.rules.sendfile import below, file_fields, not_modified_fields, redirected

if TYPE_CHECKING:
    from proxy.pipeline.site import Route
    from proxy.upstream.response import UpstreamResponse

log = logging.getLogger("proxyd.request")

_NO_FIELDS = Fields()
# A WSGI server counts the ranges of a file that it does not send (Flask's `conditional`); every
# other status is the application's own word, and so is what it means.
_COMPLETE = frozenset((200, 206))
_WITHOUT_CONTENT = frozenset((204, 304))


class FilesBelow(NamedTuple):
    """One folder whose files an upstream may name, and the paths that X-Accel-Redirect has there.

    `prefix` begins and ends with a slash, and so do `folders`: the name in the configuration, and
    where that leads.
    """

    prefix: bytes
    folders: tuple[bytes, ...]
    catalog: Catalog


def files_below(prefix: str, folder: Path, catalog: Catalog) -> FilesBelow:
    """Return what the configuration means by a prefix and a folder."""
    names = dict.fromkeys((os.path.normpath(folder), os.path.realpath(folder)))
    folders = tuple(os.fsencode(name.rstrip("/") + "/") for name in names)
    return FilesBelow(prefix.encode(), folders, catalog)


async def send_file(
    exchange: Exchange, route: "Route", said: "UpstreamResponse", given: Response
) -> Step:
    """Answer with the named file; `given` is the application's answer as a client would get it."""
    if given.status in _WITHOUT_CONTENT:
        exchange.response = given
        return respond
    if given.body is not None and not isinstance(given.body, bytes):
        let_go(given.body)  # it may never come: some say the length of the file instead of send it
    catalog, key, named = chosen(route.sendfile, said.fields)
    request = exchange.request
    whole_only = given.status not in _COMPLETE or request.method not in {b"GET", b"HEAD"}
    method = b"HEAD" if request.method == b"HEAD" else b"GET"
    fields = _NO_FIELDS if whole_only else request.fields
    try:
        made = await opened(catalog, key, given.fields, method, fields)
    except NotFoundError as error:
        log.warning("%s names a file that cannot be sent: %s: %s", route.name, named, error)
        raise
    if given.status not in _COMPLETE:
        made.status, made.reason = given.status, given.reason
    made.dated = given.dated
    exchange.response = made
    return respond


def chosen(allowed: tuple[FilesBelow, ...], fields: Fields) -> tuple[Catalog, bytes, str]:
    """Return where the named file is, its key there, and its name for the log.

    Raises NotFoundError when it is in none of the allowed folders.
    """
    path = fields.get(b"x-sendfile")
    if path is not None:
        for each in allowed:
            key = below(path, each.folders)
            if key is not None:
                return each.catalog, key, os.fsdecode(path)
        named = f"X-Sendfile: {os.fsdecode(path)!r}"
    else:
        value = fields.get(b"x-accel-redirect") or b""
        target = redirected(value)
        named = f"X-Accel-Redirect: {os.fsdecode(value)!r}"
        for each in allowed:
            if target is not None and target.startswith(each.prefix):
                return each.catalog, target[len(each.prefix) :], named
    log.warning("%s is in no folder that `sendfile` allows", named)
    raise NotFoundError(f"{named} is in no folder that `sendfile` allows")


async def opened(
    catalog: Catalog, key: bytes, said: list[FieldLine], method: bytes, fields: Fields
) -> Response:
    """Return the answer with the file. Raises as `Catalog.find` and `answer` do."""
    for _ in range(ATTEMPTS):
        found = await catalog.find(key)
        if not isinstance(found, Asset):
            raise NotFoundError("a folder")
        made = answer(dressed(found, said), method, fields, time.time)
        if not isinstance(made, Streamed):
            return made
        file = await catalog.open(made.representation)
        if file is not None:
            return Response(made.status, made.fields, FileSource(file, made.pieces))
        catalog.forget(found.key)
    raise OverloadedError("a file changes faster than it can be sent", ((b"Retry-After", b"1"),))


def dressed(asset: Asset, said: list[FieldLine]) -> Asset:
    """Return the file with the fields of the application's answer."""
    plain = asset.representations[IDENTITY]
    clothed: Representation = copy(plain)
    clothed.fields = lines = file_fields(said, plain.fields)
    clothed.content_type = next(
        (value for name, value in lines if name.lower() == b"content-type"), plain.content_type
    )
    clothed.whole = None if plain.body is None else Response(200, lines, plain.body)
    clothed.head = Response(200, lines, content_length=plain.length)
    clothed.not_modified = Response(304, not_modified_fields(lines))
    one = copy(asset)
    one.representations = {IDENTITY: clothed}
    one.codings = ()
    return one
