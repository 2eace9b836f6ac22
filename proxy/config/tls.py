"""What a [[listen]] may say about TLS, and how it is read.

Validators raise ValueError, as those of `kinds` do. Whether the files hold what they should is the
business of `certificates`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.kinds import read_path
from proxy.config.units import DURATION_PATTERN, parse_duration

FORM = '{ certificate = "cert.pem", key = "key.pem" }'

_HSTS_WORDS = {"includesubdomains": "includeSubDomains", "preload": "preload"}
_YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """The files of a certificate, with its chain behind it, and of its private key; both PEM."""

    certificate: Path
    key: Path


Tls = tuple[KeyPair, ...] | Literal["internal"]


def read_tls(value: object, info: ValidationInfo) -> Tls:
    """Return the pairs, at least one, or "internal"."""
    if value == "internal":
        return "internal"
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError(f"is an empty list; write tls = {FORM}, or leave the key out")
    return tuple(read_pair(item, info) for item in items)


def read_pair(value: object, info: ValidationInfo) -> KeyPair:
    """Return one pair of files."""
    if not isinstance(value, dict):
        raise ValueError(f'must be {FORM}, a list of these, or "internal"')  # noqa: TRY004
    for name in ("certificate", "key"):
        if name not in value:
            raise ValueError(f"lacks `{name}`; write {FORM}")
    if unknown := sorted(value.keys() - {"certificate", "key"}):
        raise ValueError(f"has no `{unknown[0]}`; there are: certificate, key")
    try:
        certificate, key = read_path(value["certificate"], info), read_path(value["key"], info)
    except ValueError as error:
        raise ValueError(f"has a file that {error}") from None
    return KeyPair(certificate=certificate, key=key)


def read_hsts(value: object) -> str:
    """Return the value of Strict-Transport-Security. RFC 6797 §6.1."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError('must be a time in quotes, such as "365d" or "365d includeSubDomains"')
    duration, *words = value.replace(",", " ").replace(";", " ").split()
    seconds = int(parse_duration(duration))
    directives = [f"max-age={seconds}"]
    for word in words:
        if word.lower() not in _HSTS_WORDS:
            raise ValueError(f'has "{word}"; behind the time may stand includeSubDomains, preload')
        directives.append(_HSTS_WORDS[word.lower()])
    if "preload" in directives and ("includeSubDomains" not in directives or seconds < _YEAR_S):
        raise ValueError('with preload must be at least "365d includeSubDomains preload"')
    return "; ".join(directives)


def read_redirect(value: object) -> bool | int:
    """Return whether requests go to https, or the port there."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and 0 < value < 65536:
        return value
    raise ValueError("must be true, false, or the port of https")


_PAIR_SCHEMA = {
    "type": "object",
    "properties": {
        "certificate": {"type": "string", "minLength": 1},
        "key": {"type": "string", "minLength": 1},
    },
    "required": ["certificate", "key"],
    "additionalProperties": False,
}

TlsSetting = Annotated[
    Tls,
    PlainValidator(read_tls),
    WithJsonSchema(
        {
            "anyOf": [
                _PAIR_SCHEMA,
                {"type": "array", "items": _PAIR_SCHEMA, "minItems": 1},
                {"const": "internal"},
            ]
        }
    ),
]
HstsSetting = Annotated[
    str,
    PlainValidator(read_hsts),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"{DURATION_PATTERN[:-1]}( includeSubDomains)?( preload)?$",
        }
    ),
]
RedirectSetting = Annotated[
    bool | int,
    PlainValidator(read_redirect),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}
    ),
]


def host_port(host: str, port: int) -> str:
    """Return an authority of https; its default port is left out."""
    return host if port == 443 else f"{host}:{port}"


def covers(pattern: str, host: str) -> bool:
    """Say whether a name of a certificate stands for `host`, both in lower case. RFC 9525 §6.3."""
    if pattern == host:
        return True
    return pattern.startswith("*.") and re.sub(r"^[^.]+\.", "*.", host) == pattern
