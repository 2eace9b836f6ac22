"""Which requests a rule means: by cookie, field, query parameter or path. Pure."""

from collections.abc import Iterator

from proxy.message import Request
from proxy.rules.cache_rule import Conditions


def met(conditions: Conditions, request: Request) -> bool:
    """Whether `request` has any of what `conditions` name."""
    if conditions.paths and request.route_path in conditions.paths:
        return True
    if conditions.headers and any(name.lower() in conditions.headers for name, _ in request.fields):
        return True
    if conditions.query and any(
        name in conditions.query for name, _ in parameters(request.query or b"")
    ):
        return True
    return bool(conditions.cookies) and any(
        name in conditions.cookies for name, _ in cookies(request.fields.get(b"cookie") or b"")
    )


def parameters(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the parameters of a query as they are spelled, each with its name."""
    for parameter in query.split(b"&"):
        yield parameter.partition(b"=")[0], parameter


def cookies(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and value of each cookie of a Cookie field. RFC 6265 §4.2."""
    for pair in value.split(b";"):
        name, equals, content = pair.strip(b" \t").partition(b"=")
        if equals or name:
            yield name, content
