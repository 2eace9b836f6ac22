"""Field values that mean the same, written the same way: for comparing requests. RFC 9111 §4.1.

Pure. Only what is known to have one meaning is changed; what is malformed stays as it is.
"""

from collections.abc import Callable
from typing import Final

from proxy.rules.negotiation import WEIGHT

Weighted = list[tuple[bytes, float]]


def canonical_value(name: bytes, value: bytes) -> bytes:
    """Return the value of the lower-case `name` in its one form, where we know of one."""
    canonical = _CANONICAL.get(name)
    return value if canonical is None else canonical(value)


def _codings(value: bytes) -> bytes:
    """Write Accept-Encoding in one way: in it, order means nothing. RFC 9110 §12.5.3."""
    elements = _weighted(value)
    if elements is None:
        return value
    named = [(b"gzip" if name == b"x-gzip" else name, weight) for name, weight in elements]
    return _written(sorted(named, key=_first))


def _preferences(value: bytes) -> bytes:
    """Write a list in the order of its weights; equal ones stay in theirs. RFC 9110 §12.5.4."""
    elements = _weighted(value)
    return value if elements is None else _written(sorted(elements, key=_least))


def _weighted(value: bytes) -> Weighted | None:
    """Read a list of `name;parameters;q=weight`; None when it is malformed or has quotes."""
    if b'"' in value:
        return None
    elements = []
    for element in value.split(b","):
        name, *parameters = [part.strip(b" \t") for part in element.split(b";")]
        weight = 1.0
        text = name.lower()
        for parameter in parameters:
            if parameter[:2].lower() == b"q=":
                found = WEIGHT.fullmatch(parameter)
                if found is None:
                    return None
                weight = float(found[1])
            else:
                text += b";" + parameter
        if text:
            elements.append((text, weight))
    return elements


def _written(elements: Weighted) -> bytes:
    return b",".join(
        [name if weight == 1 else b"%b;q=%b" % (name, b"%g" % weight) for name, weight in elements]
    )


def _first(element: tuple[bytes, float]) -> bytes:
    return element[0]


def _least(element: tuple[bytes, float]) -> float:
    return -element[1]


_CANONICAL: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"accept": _preferences,
    b"accept-charset": _preferences,
    b"accept-encoding": _codings,
    b"accept-language": _preferences,
}
