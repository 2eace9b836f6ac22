"""The step of an exchange that did not work out: an error page, and the reason in the log."""

import json
import logging
from http import HTTPStatus
from typing import Final

from proxy.errors import ClientGoneError, HttpError, StoredContentError
from proxy.message import FieldLine, Response
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.finish import finish
from proxy.pipeline.respond import respond
from proxy.rules.negotiation import prefers_json

log: Final = logging.getLogger("proxyd.request")

PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{status} {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;\
color-scheme:light dark}}h1{{font-size:1.4rem}}p{{opacity:.75}}</style></head>
<body><h1>{status} {title}</h1><p>{hint}</p></body></html>
"""

HINTS: Final = {
    400: "The request is not one that this server can read.",
    403: "This is not given to everybody.",
    404: "There is nothing at this address.",
    405: "This address does not know the method of the request.",
    408: "The request took too long to arrive.",
    412: "The condition of the request does not hold.",
    413: "The content of the request is too large.",
    414: "The address is too long.",
    416: "The ranges of the request cannot be had.",
    417: "The expectation of the request cannot be met.",
    421: "This server does not answer for that host.",
    431: "The header of the request is too large.",
    500: "Something went wrong here.",
    501: "The request asks for something that this server does not know.",
    502: "The application behind this server did not answer properly.",
    503: "The server is busy. Please try again in a moment.",
    504: "The application behind this server did not answer in time.",
    505: "This server speaks HTTP/1.1 here.",
    507: "The server has no room for the content of the request.",
}


def fail(exchange: Exchange) -> Step:
    """Turn `exchange.failure` into an answer. The client never learns the reason."""
    error = exchange.failure or HttpError("no reason given")
    if not error.is_logged:
        error.is_logged = True
        tell(exchange, error)
    if exchange.sink.began:
        return finish
    exchange.response = response = error_response(error, exchange.request.fields.get(b"accept"))
    if exchange.route is not None and exchange.route.headers:
        # What the page says of itself stays: it is not the file or answer that they are meant for.
        own = {name.lower() for name, _ in response.fields}
        response.fields += [line for line in exchange.route.headers if line[0].lower() not in own]
    if error.close:
        exchange.sink.closing = True
    return respond


def tell(exchange: Exchange, error: HttpError) -> None:
    """Write the reason to the log."""
    request = exchange.request
    level = logging.ERROR if error.status >= 500 else logging.INFO
    upstream = f", upstream {exchange.upstream_name}" if exchange.upstream_name else ""
    log.log(
        level,
        "%s: %s (client %s, %s %s%s)",
        error.status,
        error,
        exchange.client,
        request.method.decode("ascii", "replace") or "-",
        request.target.decode("ascii", "backslashreplace") or "-",
        upstream,
    )


def error_response(error: HttpError, accept: bytes | None) -> Response:
    """Build a small page, or JSON for a client that prefers it. RFC 9110 §15."""
    status = error.status
    title = HTTPStatus(status).phrase
    hint = error.hint or HINTS.get(status, "")
    if prefers_json(accept):
        body = json.dumps({"status": status, "title": title, "detail": hint})
        kind = b"application/json"
    else:
        body = PAGE.format(status=status, title=title, hint=hint)
        kind = b"text/html; charset=utf-8"
    fields: list[FieldLine] = [
        (b"Content-Type", kind),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        *error.fields,
    ]
    return Response(status, fields, body.encode())


def step_after(exchange: Exchange, error: BaseException) -> Step:
    """Return the step that deals with `error`; what was not foreseen is a 500 and a traceback."""
    if isinstance(error, HttpError):
        exchange.failure = error
        return fail
    if isinstance(error, ClientGoneError):
        return finish
    if isinstance(error, StoredContentError):  # seen too late for a miss
        exchange.failure = HttpError(f"stored content: {error}")
        return fail
    log.error("an error that proxyd did not foresee", exc_info=error)
    exchange.failure = HttpError("internal error")
    return fail
