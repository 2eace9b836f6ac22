"""Sizes and durations as people write them in proxy.toml: "64MiB", "1.5m".

Pure. Failures are ValueError, because pydantic collects those; `load` turns them into ConfigError.
"""

import re
from decimal import Decimal

SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]$|^[0-9]+$"
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$"

SIZE_FORMS = 'a size such as "64KiB", "10MB" or 65536 (bytes)'
DURATION_FORMS = 'a duration such as "500ms", "10s", "1.5m", "2h" or "1d"'

SIZE_UNITS = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}

# Offsets of files are signed 64 bit numbers; a duration is only kept from losing its meaning.
LARGEST_SIZE = 2**63 - 1
LONGEST_DURATION_S = 10 * 365 * 86400

# The number is bounded so that its arithmetic is.
NUMBER_AND_UNIT = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([A-Za-z]*)")


def parse_size(value: object) -> int:
    """Return the bytes that `value` stands for: a whole number, or text with a unit.

    1kB is 1000 bytes and 1KiB is 1024 (IEC 80000-13); upper and lower case are the same.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = Decimal(value)
    else:
        number, unit = split(value, SIZE_FORMS)
        if unit and unit.lower() not in SIZE_UNITS:
            raise ValueError(unknown_size_unit(f"{number}", unit))
        size = number * SIZE_UNITS[unit.lower() or "b"]
    if size != size.to_integral_value():
        raise ValueError(f"{value!r} is not a whole number of bytes")
    if not 0 <= size <= LARGEST_SIZE:
        raise ValueError(f"{value!r} is not between 0 and {LARGEST_SIZE} bytes")
    return int(size)


def parse_duration(value: object) -> float:
    """Return the seconds that `value` stands for.

    A bare number is refused: nginx would read it as seconds, HAProxy as milliseconds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'{value} has no unit; write "{value}s" or "{value}ms"')  # noqa: TRY004
    number, unit = split(value, DURATION_FORMS)
    if not unit:
        raise ValueError(f'"{value}" has no unit; write "{value}s" or "{value}ms"')
    if unit not in DURATION_UNITS:
        raise ValueError(f'"{value}" has the unknown unit "{unit}"; write {DURATION_FORMS}')
    duration_s = number * DURATION_UNITS[unit]
    if duration_s > LONGEST_DURATION_S:
        raise ValueError(f'"{value}" is longer than ten years')
    return float(duration_s)


def split(value: object, forms: str) -> tuple[Decimal, str]:
    """Take `value` apart into its number and its unit, which may be empty."""
    found = NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        shown = f'"{value}"' if isinstance(value, str) else f"{value!r}"
        raise ValueError(f"{shown} is not {forms}")
    return Decimal(found[1]), found[2]


def unknown_size_unit(number: str, unit: str) -> str:
    """Say what was wrong with `unit`; nginx's "8k" gets both of its readings."""
    if unit.lower() in ("k", "m", "g", "t", "ki", "mi", "gi", "ti"):
        letter = unit[0].upper()
        decimal = "k" if letter == "K" else letter
        return (
            f'"{number}{unit}" has half a unit; write "{number}{letter}iB" (powers of 1024, as in '
            f'nginx and Apache) or "{number}{decimal}B" (powers of 1000)'
        )
    return f'"{number}{unit}" has the unknown unit "{unit}"; write {SIZE_FORMS}'
