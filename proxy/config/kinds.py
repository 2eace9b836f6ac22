"""The types of proxy.toml's values: how each is read, and how the JSON Schema describes it.

Validators raise ValueError (pydantic collects them all) and complete the sentence "this key …".
What depends on more than the value itself comes in as `Reading`, pydantic's validation context.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.types import Strict

from proxy.config.locate import Source
from proxy.config.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size
from proxy.config.values import (
    each,
    parse_address,
    parse_environment,
    parse_field_value,
    parse_fields,
    parse_index,
    parse_network,
    parse_path_pattern,
    parse_route_host,
    parse_target_name,
    parse_try,
    parse_wsgi,
)
from proxy.upstream.address import Address, TcpAddress


class Table(BaseModel):
    """What all tables have in common: an unknown key is an error, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def default(written: object) -> Any:
    """Give a field its default as a person would write it; it is read as the file's values are."""
    return Field(default=written, validate_default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What validators must know beside the value: the file, and the names that it defines.

    `mounts` has the `mount` of each app that has one.
    """

    source: Source
    apps: frozenset[str]
    targets: frozenset[str]
    mounts: dict[str, str]


class UnknownTargetError(ValueError):
    """A route sends to a name that no app and no upstream has."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no [app.{name}] and no [upstream.{name}]")
        self.name = name
        self.known = known


def read_positive_size(value: object) -> int:
    """Return bytes, at least one."""
    size_bytes = parse_size(value)
    if size_bytes == 0:
        raise ValueError('must be more than 0, which is not "unlimited" here: give a large size')
    return size_bytes


def read_size_or_off(value: object) -> int:
    """Return bytes; `false` is 0."""
    return 0 if value is False else read_positive_size(value)


def read_positive_duration(value: object) -> float:
    """Return seconds, more than none."""
    duration_s = parse_duration(value)
    if duration_s == 0:
        raise ValueError('must be longer than 0; for "never", give a long one, such as "365d"')
    return duration_s


def at_most_a_second(duration_s: float) -> float:
    """Check the interval between two looks at the disk."""
    if duration_s > 1:
        raise ValueError('must be at most "1s", so that a changed file is seen within two')
    return duration_s


def read_workers(value: object) -> int | str:
    """Return a number of processes, or "auto"."""
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024:
        return value
    raise ValueError('must be "auto" or a whole number from 1 to 1024')


def read_path(value: object, info: ValidationInfo) -> Path:
    """Return the absolute path; a relative one begins at the folder of proxy.toml."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a path in quotes")
    if value.startswith("~"):
        raise ValueError(f'"{value}" begins with "~", which is not expanded; write the whole path')
    return reading(info).source.file.parent / value


def read_access_log(value: object, info: ValidationInfo) -> Path | str:
    """Return a path, "-" or "off"."""
    return "off" if value == "off" else read_error_log(value, info)


def read_error_log(value: object, info: ValidationInfo) -> Path | str:
    """Return a path or "-"."""
    if value == "off":
        raise ValueError('cannot be "off"; "-" is standard error')
    return "-" if value == "-" else read_path(value, info)


def read_listen_address(value: object, info: ValidationInfo) -> Address:
    """Return where to listen; port 0 lets the system choose."""
    if not isinstance(value, str):
        raise ValueError('must be "host:port" or "unix:path", in quotes')  # noqa: TRY004
    return parse_address(value, reading(info).source.file.parent)


def read_server_address(value: object, info: ValidationInfo) -> Address:
    """Return where a server is."""
    address = read_listen_address(value, info)
    if isinstance(address, TcpAddress) and address.port == 0:
        raise ValueError(f'"{value}" has port 0, to which nobody can connect')
    return address


def known_target(name: str, info: ValidationInfo) -> str:
    """Check that an app or upstream has this name."""
    if name not in reading(info).targets:
        raise UnknownTargetError(name, sorted(reading(info).targets))
    return name


def not_an_app(name: str, info: ValidationInfo) -> str:
    """Check that no app has the name of this upstream."""
    if name in reading(info).apps:
        raise ValueError("is also the name of an app; routes could not tell the two apart")
    return name


def reading(info: ValidationInfo) -> Reading:
    """Return the validation context."""
    return cast("Reading", info.context)


def some(what: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return a check that there is at least one item."""

    def check(items: tuple[Any, ...]) -> tuple[Any, ...]:
        if not items:
            raise ValueError(f"is empty; it needs at least {what}")
        return items

    return check


def distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Check that no address is there twice."""
    addresses = [str(getattr(item, "address", item)) for item in items]
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            raise ValueError(f'has "{address}" twice')
    return items


SIZE_FORMS = [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}]
SIZE = WithJsonSchema({"anyOf": SIZE_FORMS})
PATH = WithJsonSchema({"type": "string", "minLength": 1})
ADDRESS = WithJsonSchema({"type": "string", "pattern": r"^unix:.+$|^.+:[0-9]{1,5}$"})
ONE_OR_MORE_TEXTS = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ]
    }
)

Flag = StrictBool
Count = Annotated[int, Strict(), Field(ge=1)]
Size = Annotated[int, BeforeValidator(parse_size), SIZE]
PositiveSize = Annotated[int, BeforeValidator(read_positive_size), SIZE]
SizeOrOff = Annotated[
    int,
    BeforeValidator(read_size_or_off),
    WithJsonSchema({"anyOf": [*SIZE_FORMS, {"const": False}]}),
]
Duration = Annotated[
    float,
    BeforeValidator(read_positive_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
CheckInterval = Annotated[Duration, AfterValidator(at_most_a_second)]
Workers = Annotated[
    int | str,
    PlainValidator(read_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]
FilePath = Annotated[Path, PlainValidator(read_path), PATH]
AccessLogTarget = Annotated[Path | str, PlainValidator(read_access_log), PATH]
ErrorLogTarget = Annotated[Path | str, PlainValidator(read_error_log), PATH]
ListenAddress = Annotated[Address, PlainValidator(read_listen_address), ADDRESS]
Network = Annotated[str, AfterValidator(parse_network)]
TargetName = Annotated[str, AfterValidator(parse_target_name)]
UpstreamName = Annotated[TargetName, AfterValidator(not_an_app)]
KnownTarget = Annotated[str, AfterValidator(known_target)]
WsgiObject = Annotated[str, AfterValidator(parse_wsgi)]
Environment = Annotated[dict[str, str], AfterValidator(parse_environment)]
PathPattern = Annotated[str, AfterValidator(parse_path_pattern)]
Hosts = Annotated[tuple[str, ...], PlainValidator(each(parse_route_host)), ONE_OR_MORE_TEXTS]
ResponseFields = Annotated[dict[str, str], AfterValidator(parse_fields)]
FieldValue = Annotated[str, AfterValidator(parse_field_value)]
IndexName = Annotated[str, AfterValidator(parse_index)]
TryPath = Annotated[str, AfterValidator(parse_try)]
