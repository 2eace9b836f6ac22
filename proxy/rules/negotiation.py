"""What the client would like best: content codings, and JSON or HTML for an error page.

Pure; answers are remembered, since a browser sends the same few values with every request.
"""

import re
from functools import lru_cache
from typing import Final

# Best first among those that the client likes equally. A file is compressed once and sent often,
# so size decides: brotli beats zstandard on small text, and both beat gzip.
CODINGS: Final = (b"br", b"zstd", b"gzip")

IDENTITY: Final[bytes] = b"identity"

# RFC 9110 §12.4.2: three decimals at most, and never above one.
WEIGHT: Final = re.compile(rb"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def parse_weights(value: bytes) -> dict[bytes, float]:
    """Read a list of `name;q=weight` into weights from 0 to 1 by lower-case name.

    Other parameters are left out; an element with a malformed weight is skipped. RFC 9110 §12.4.2.
    """
    weights: dict[bytes, float] = {}
    for element in value.split(b","):
        name, *parameters = (part.strip(b" \t") for part in element.split(b";"))
        weight = 1.0
        for parameter in parameters:
            if parameter[:2].lower() != b"q=":
                continue
            match = WEIGHT.fullmatch(parameter)
            weight = float(match[1]) if match else -1.0
        if name and weight >= 0:
            weights[name.lower()] = weight
    return weights


@lru_cache(maxsize=1024)
def choose_coding(accept_encoding: bytes | None, available: tuple[bytes, ...]) -> bytes:
    """Choose among `available` codings (best first) and identity. RFC 9110 §12.5.3.

    Identity wins when the client weighs it higher than the rest by name, when nothing was asked,
    and when nothing at all is acceptable: a readable answer is worth more than a 406 (§12.1).
    """
    if not accept_encoding:
        return IDENTITY
    weights = parse_weights(accept_encoding)
    if b"x-gzip" in weights:  # §8.4.1.3: to be taken as the same
        weights.setdefault(b"gzip", weights[b"x-gzip"])
    others = weights.get(b"*", 0.0)
    chosen = IDENTITY
    best = weights.get(IDENTITY, 0.0)
    for coding in available:
        weight = weights.get(coding, others)
        if weight > best or (weight == best > 0 and chosen == IDENTITY):
            chosen, best = coding, weight
    return chosen


@lru_cache(maxsize=1024)
def prefers_json(accept: bytes | None) -> bool:
    """Say whether application/json is wanted more than text/html. RFC 9110 §12.5.1."""
    if not accept:
        return False
    weights = parse_weights(accept)
    return _media_weight(weights, b"application/json") > _media_weight(weights, b"text/html")


def _media_weight(weights: dict[bytes, float], media_type: bytes) -> float:
    """Weigh a media type by the most specific range that covers it."""
    family = media_type.partition(b"/")[0] + b"/*"
    for media_range in (media_type, family, b"*/*"):
        if media_range in weights:
            return weights[media_range]
    return 0.0
