"""A request as a person writes it on the command line: a URL, a method, `-H` fields."""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from proxy.errors import BadRequestError, CommandError
from proxy.message import Fields, Request
from proxy.rules.target import as_applications_see, parse_target

# What a URL may have as it is; everything else that is not ASCII is percent-encoded as UTF-8.
_KEPT = "".join(map(chr, range(0x21, 0x7F)))
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Asked(NamedTuple):
    """A request, and whether it came over b"http" or b"https"."""

    request: Request
    scheme: bytes


def asked(url: str, headers: Iterable[str] = (), method: str = "GET") -> Asked:
    """Return the request that a client would send. Raises CommandError."""
    if not _METHOD.fullmatch(method):
        raise CommandError(f'"{method}" is no method; write GET, HEAD, POST …')
    target = quote(url, safe=_KEPT).encode()
    try:
        parsed = parse_target(b"GET", target, [b"unnamed"], 1)
    except BadRequestError as error:
        raise CommandError(f'"{url}" is no URL that a client could ask for: {error}') from None
    if parsed.absolute_scheme is None:
        raise CommandError(f'"{url}" is a part of a URL; write all of it: http://HOST{url}')
    lines = [(b"Host", parsed.authority), *map(field, headers)]
    request = Request(
        method.encode(),
        parsed.path if parsed.query is None else parsed.path + b"?" + parsed.query,
        1,
        Fields(lines),
        parsed.path,
        parsed.query,
        parsed.authority,
        parsed.host,
    )
    request.route_path = as_applications_see(parsed.path)
    return Asked(request, parsed.absolute_scheme)


def field(text: str) -> tuple[bytes, bytes]:
    """Return the line of a `-H "Name: value"`. Raises CommandError."""
    match = _FIELD.fullmatch(text)
    if match is None or not text.isprintable():
        raise CommandError(f'-H "{text}" is no field; write -H "Name: value"')
    return match[1].encode(), match[2].encode()


def url_of(asked: Asked) -> str:
    """Return the URL of a request, for people."""
    request = asked.request
    return (asked.scheme + b"://" + request.authority + request.target).decode()
