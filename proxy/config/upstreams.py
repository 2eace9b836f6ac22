"""What an [upstream.NAME] may say of its servers, and how it is read.

Validators raise ValueError, as those of `kinds` do.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.kinds import ADDRESS, read_path, read_positive_duration, read_server_address
from proxy.config.units import DURATION_PATTERN
from proxy.config.values import FIELD_NAME, parse_field_value
from proxy.upstream.server import Balance, Server, UpstreamTls

# RFC 6265 §4.1.1: a cookie's name is a token, as a field's is.
COOKIE_NAME = FIELD_NAME
# A weight is a share; nginx's hash makes 160 points of each unit.
MAX_WEIGHT: Final = 100

SERVER_FORM = '{ address = "host:port", weight = 1, backup = false, max_connections = 256 }'
PROBE_FORM = '{ path = "/healthz" }'
TLS_FORM = 'true or { ca = "ca.pem", server_name = "app.internal" }'
BALANCE_FORMS = (
    '"round_robin", "least_conn", "random_two", "hash path", "hash address", "hash header NAME" or'
    ' "hash cookie NAME"'
)
STATUS = re.compile(r"[1-5]xx")

Read = Callable[[object, ValidationInfo], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What every server is asked, and which answers are good.

    `host` is the Host of the request, the server's own when None; `statuses` are the good ones.
    """

    path: str
    interval_s: float = 5
    timeout_s: float = 2
    rise: int = 2
    fall: int = 3
    statuses: frozenset[int] = frozenset(range(200, 400))
    host: str | None = None


def read_keys(value: dict[str, object], readers: dict[str, Read], info: ValidationInfo) -> Any:
    """Return the values of a table in braces, each read by its own reader."""
    if unknown := sorted(value.keys() - readers):
        raise ValueError(f"has no `{unknown[0]}`; there are: {', '.join(readers)}")
    found = {}
    for name, given in value.items():
        try:
            found[name] = readers[name](given, info)
        except ValueError as error:
            raise ValueError(f"`{name}` {error}") from None
    return found


def read_count(value: object, _info: ValidationInfo) -> int:
    """Return a whole number, at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number, at least 1")
    return value


def read_weight(value: object, info: ValidationInfo) -> int:
    """Return a weight."""
    weight = read_count(value, info)
    if weight > MAX_WEIGHT:
        raise ValueError(f"must be at most {MAX_WEIGHT}; only the ratio of weights counts")
    return weight


def read_flag(value: object, _info: ValidationInfo) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004
    return value


def read_text(value: object, _info: ValidationInfo) -> str:
    """Return a text that can stand in a field."""
    if not isinstance(value, str):
        raise ValueError("must be a text in quotes")  # noqa: TRY004
    return parse_field_value(value)


def read_duration(value: object, _info: ValidationInfo) -> float:
    """Return seconds, more than none."""
    return read_positive_duration(value)


def read_server(value: object, info: ValidationInfo) -> Server:
    """Return a server, of its address alone or of a table."""
    if not isinstance(value, dict):
        return Server(address=read_server_address(value, info))
    if "address" not in value:
        raise ValueError(f"lacks `address`; write {SERVER_FORM}")
    readers: dict[str, Read] = {
        "address": read_server_address,
        "weight": read_weight,
        "backup": read_flag,
        "max_connections": read_count,
    }
    return Server(**read_keys(value, readers, info))


def not_only_backups(servers: tuple[Server, ...]) -> tuple[Server, ...]:
    """Check that somebody is there while nothing is wrong."""
    if all(server.backup for server in servers):
        raise ValueError("has backups only; at least one server must be none")
    return servers


def read_balance(value: object) -> Balance:
    """Return how to choose a server."""
    words = value.split() if isinstance(value, str) else []
    match words:
        case [("round_robin" | "least_conn" | "random_two") as kind]:
            return Balance(kind=cast("Any", kind))
        case ["hash", ("path" | "address") as source]:
            return Balance(kind="hash", source=cast("Any", source))
        case ["hash", ("header" | "cookie") as source, name] if FIELD_NAME.fullmatch(name):
            return Balance(kind="hash", source=cast("Any", source), name=name)
        case ["hash", "header" | "cookie"]:
            raise ValueError(f'lacks a name; write "{" ".join(words)} NAME"')
    raise ValueError(f"must be {BALANCE_FORMS}")


def read_cookie_name(value: object) -> str:
    """Return the name of a cookie."""
    if not isinstance(value, str) or not COOKIE_NAME.fullmatch(value):
        raise ValueError('must be the name of a cookie, such as "server"')
    return value


def read_probe(value: object, info: ValidationInfo, key: str) -> Probe:
    """Return what to ask."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a table; write {key} = {PROBE_FORM}")  # noqa: TRY004
    if "path" not in value:
        raise ValueError(f"lacks `path`; write {key} = {PROBE_FORM}")
    readers: dict[str, Read] = {
        "path": read_probe_path,
        "interval": read_duration,
        "timeout": read_duration,
        "rise": read_count,
        "fall": read_count,
        "statuses": read_statuses,
        "host": read_text,
    }
    found = read_keys(value, readers, info)
    for name in ("interval", "timeout"):
        if name in found:
            found[f"{name}_s"] = found.pop(name)
    return Probe(**found)


def read_probe_path(value: object, info: ValidationInfo) -> str:
    """Return the path of a request."""
    text = read_text(value, info)
    if not text.startswith("/") or " " in text or "#" in text:
        raise ValueError('must begin with "/", and have no spaces and no "#"')
    return text


def read_statuses(value: object, _info: ValidationInfo) -> frozenset[int]:
    """Return the statuses of a list of numbers and classes, such as [200, "3xx"]."""
    found: set[int] = set()
    for item in value if isinstance(value, list) else []:
        if isinstance(item, str) and STATUS.fullmatch(item):
            found.update(range(int(item[0]) * 100, int(item[0]) * 100 + 100))
        elif isinstance(item, int) and not isinstance(item, bool) and 100 <= item <= 599:
            found.add(item)
        else:
            raise ValueError(f'has {item!r}; write statuses such as [200, "3xx"]')
    if not found:
        raise ValueError('must be a list with at least one status, such as [200, "3xx"]')
    return frozenset(found)


def read_upstream_tls(value: object, info: ValidationInfo) -> UpstreamTls | None:
    """Return how to speak TLS; `false` is not at all."""
    if isinstance(value, bool):
        return UpstreamTls() if value else None
    if not isinstance(value, dict):
        raise ValueError(f"must be {TLS_FORM}")  # noqa: TRY004
    readers: dict[str, Read] = {
        "ca": read_path,
        "server_name": read_text,
        "certificate": read_path,
        "key": read_path,
        "verify": read_flag,
    }
    found = read_keys(value, readers, info)
    if "key" in found and "certificate" not in found:
        raise ValueError("has a `key` without a `certificate`")
    if found.get("verify") is False and "ca" in found:
        raise ValueError(
            "has a `ca`, which is of no use with verify = false; leave one of them out"
        )
    if "ca" in found:
        found["ca_file"] = found.pop("ca")
    return UpstreamTls(**found)


_COUNT = {"type": "integer", "minimum": 1}
_TEXT = {"type": "string", "minLength": 1}
_DURATION = {"type": "string", "pattern": DURATION_PATTERN}


def _table(required: list[str], **properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


_ADDRESS = cast("dict[str, Any]", ADDRESS.json_schema)
ServerSetting = Annotated[
    Server,
    PlainValidator(read_server),
    WithJsonSchema(
        {
            "anyOf": [
                _ADDRESS,
                _table(
                    ["address"],
                    address=_ADDRESS,
                    weight={**_COUNT, "maximum": MAX_WEIGHT},
                    backup={"type": "boolean"},
                    max_connections=_COUNT,
                ),
            ]
        }
    ),
]
BalanceSetting = Annotated[
    Balance,
    PlainValidator(read_balance),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^(round_robin|least_conn|random_two|hash (path|address)"
            "|hash (header|cookie) .+)$",
        }
    ),
]
StickyCookie = Annotated[str, PlainValidator(read_cookie_name), WithJsonSchema(_TEXT)]
PROBE_SCHEMA = _table(
    ["path"],
    path={"type": "string", "pattern": "^/"},
    interval=_DURATION,
    timeout=_DURATION,
    rise=_COUNT,
    fall=_COUNT,
    statuses={
        "type": "array",
        "minItems": 1,
        "items": {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": "^[1-5]xx$"},
            ]
        },
    },
    host=_TEXT,
)


def read_upstream_probe(value: object, info: ValidationInfo) -> Probe:
    """Return what is asked of the servers of an upstream."""
    return read_probe(value, info, "probe")


ProbeSetting = Annotated[Probe, PlainValidator(read_upstream_probe), WithJsonSchema(PROBE_SCHEMA)]
UpstreamTlsSetting = Annotated[
    UpstreamTls | None,
    PlainValidator(read_upstream_tls),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                _table(
                    [],
                    ca=_TEXT,
                    server_name=_TEXT,
                    certificate=_TEXT,
                    key=_TEXT,
                    verify={"type": "boolean"},
                ),
            ]
        }
    ),
]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
Retries = Annotated[int, Field(strict=True, ge=0, le=10)]
NotOnlyBackups = AfterValidator(not_only_backups)
