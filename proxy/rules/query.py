"""The query of a target as applications read it: parameters with names and values. Pure."""

import re
from typing import Final, NamedTuple

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


class Parameter(NamedTuple):
    """One parameter: decoded, and as it was written. `raw` has its name, equals sign and value."""

    name: bytes
    value: bytes
    raw: bytes


def parse_query(query: bytes | None) -> list[Parameter]:
    """Return the parameters in order, as application/x-www-form-urlencoded has them.

    An ampersand separates, a semicolon does not (WHATWG URL §5.1).
    """
    if query is None:
        return []
    parameters = []
    for raw in query.split(b"&"):
        name, _, value = raw.partition(b"=")
        parameters.append(Parameter(_decoded(name), _decoded(value), raw))
    return parameters


def _decoded(text: bytes) -> bytes:
    text = text.replace(b"+", b" ")
    if b"%" not in text:
        return text
    return _ESCAPE.sub(lambda escape: bytes((int(escape[1], 16),)), text)
