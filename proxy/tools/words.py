"""Numbers as people read them. Pure."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def text(value: bytes) -> str:
    """Return bytes from the wire as text."""
    return value.decode("utf-8", "backslashreplace")


def clause(sentence: str) -> str:
    """Return a sentence as a part of another one."""
    return sentence[0].lower() + sentence[1:].rstrip(".")


def size(count: float) -> str:
    """Write a number of bytes: `1.4 MiB`."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise ValueError(count)  # pragma: no cover - the last unit takes all


def lasting(seconds: float) -> str:
    """Write a duration, of less than ten seconds with a digit more."""
    if seconds < 0:
        return f"-{lasting(-seconds)}"
    if 0 < seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    return duration(seconds)


def duration(seconds: float) -> str:
    """Write a time as people do: its two largest units."""
    rest = int(seconds)
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        number, rest = divmod(rest, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def ago(seconds: float) -> str:
    """Write how long ago, or in how long, something is."""
    return f"{lasting(seconds)} ago" if seconds >= 0 else f"in {lasting(-seconds)}"
