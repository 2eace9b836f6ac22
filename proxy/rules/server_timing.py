"""Writes and reads Server-Timing: what took how long of one answer. W3C Server Timing §2.

Pure. Durations are in milliseconds there, and in seconds everywhere else.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

NAME = b"Server-Timing"
# Between proxyd and an application that it runs, or another worker: in a request it asks for
# metrics, in an answer it holds them. Taken from nobody else, and shown to nobody else.
PRIVATE = b"X-Proxyd-Timing"
ASK = b"1"

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rb"(" + _TOKEN + rb'|"(?:[^"\\]|\\.)*")'
_METRIC = re.compile(rb"[ \t,]*(" + _TOKEN + rb")((?:[ \t]*;[^,;\"]*(?:\"(?:[^\"\\]|\\.)*\")?)*)")
_PARAMETER = re.compile(rb";[ \t]*(" + _TOKEN + rb")[ \t]*=[ \t]*" + _VALUE)
_ESCAPED = re.compile(rb"\\(.)")


class Metric(NamedTuple):
    """One metric; its duration is 0 where none was said."""

    name: bytes
    duration_s: float = 0.0
    description: bytes = b""


def metric(name: bytes, duration_s: float | None = None, description: bytes = b"") -> bytes:
    """Write one metric, to the microsecond; `name` and `description` are tokens."""
    parts = [name]
    if description:
        parts.append(b"desc=" + description)
    if duration_s is not None:
        parts.append(b"dur=%.3f" % (max(0.0, duration_s) * 1000))
    return b";".join(parts)


def parse(values: Iterable[bytes]) -> Iterator[Metric]:
    """Read the metrics of all lines, in order; of a parameter that comes twice the first counts.

    What is malformed is skipped up to where the next metric can begin, as browsers do.
    """
    for value in values:
        for found in _METRIC.finditer(value):
            told: dict[bytes, bytes] = {}
            for name, text in _PARAMETER.findall(found[2]):
                told.setdefault(name.lower(), _unquoted(text))
            yield Metric(found[1], _seconds(told.get(b"dur", b"")), told.get(b"desc", b""))


def _unquoted(text: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", text[1:-1]) if text.startswith(b'"') else text


def _seconds(text: bytes) -> float:
    try:
        return float(text) / 1000
    except ValueError:
        return 0.0
