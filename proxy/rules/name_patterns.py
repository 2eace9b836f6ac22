"""Names with a star, as people write them in proxy.toml: "utm_*". Pure.

A pattern has one star at most, so that matching takes no longer than the name is long.
"""

import re
from collections.abc import Iterable


def compile_names(patterns: Iterable[bytes]) -> re.Pattern[bytes]:
    """Return an expression for `fullmatch` that any of `patterns` satisfies, none of none."""
    return _any_of([_literal(pattern) for pattern in patterns])


def compile_pairs(patterns: Iterable[bytes]) -> re.Pattern[bytes]:
    """Return an expression for `fullmatch` with `name=value`.

    A pattern without an equals sign is a name alone, whatever its value.
    """
    return _any_of(
        [
            _literal(pattern) if b"=" in pattern else _literal(pattern) + rb"=.*"
            for pattern in patterns
        ]
    )


def _literal(pattern: bytes) -> bytes:
    return rb".*".join(re.escape(part) for part in pattern.split(b"*"))


def _any_of(expressions: list[bytes]) -> re.Pattern[bytes]:
    return re.compile(rb"|".join(expressions) if expressions else rb"(?!)", re.DOTALL)
