"""The types of [cache] and [route.cache]: as `kinds`, for values that only these have."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, PlainValidator, WithJsonSchema

from proxy.config.cache_values import (
    parse_cookie_condition,
    parse_cookie_name,
    parse_cookie_pattern,
    parse_field_condition,
    parse_field_name,
    parse_key_field,
    parse_media_type,
    parse_parameter_condition,
    parse_parameter_pattern,
    parse_status,
)
from proxy.config.kinds import ONE_OR_MORE_TEXTS, SIZE_FORMS, read_size_or_off
from proxy.config.units import DURATION_PATTERN, parse_duration
from proxy.config.values import each, parse_path_pattern

# Blocks of this size have a checksum each in files of the store.
SMALLEST_SLICE_BYTES = 64 * 1024


def read_slice(value: object) -> int:
    """Return bytes; `false` is 0."""
    size_bytes = read_size_or_off(value)
    if 0 < size_bytes < SMALLEST_SLICE_BYTES:
        raise ValueError('must be at least "64KiB", for each slice is a request of its own')
    return size_bytes


def read_statuses(value: object) -> tuple[str, ...]:
    """Return one status or a list of them."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError("is an empty list; leave the key out instead")
    return tuple(parse_status(item) for item in items)


def in_lower_case(value: object) -> object:
    """Return a text in lower case; what is none gets its error later."""
    return value.lower() if isinstance(value, str) else value


Lifetime = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
SliceSize = Annotated[
    int,
    BeforeValidator(read_slice),
    WithJsonSchema({"anyOf": [*SIZE_FORMS, {"const": False}]}),
]
StatusName = Annotated[str, AfterValidator(parse_status)]
STATUS_JSON = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 200, "maximum": 599}]}
Statuses = Annotated[
    tuple[str, ...],
    PlainValidator(read_statuses),
    WithJsonSchema({"anyOf": [*STATUS_JSON["anyOf"], {"type": "array", "items": STATUS_JSON}]}),
]
MediaTypes = Annotated[tuple[str, ...], PlainValidator(each(parse_media_type)), ONE_OR_MORE_TEXTS]
Paths = Annotated[tuple[str, ...], PlainValidator(each(parse_path_pattern)), ONE_OR_MORE_TEXTS]
CookieName = Annotated[str, AfterValidator(parse_cookie_name)]
CookiePattern = Annotated[str, AfterValidator(parse_cookie_pattern)]
ParameterPattern = Annotated[str, AfterValidator(parse_parameter_pattern)]
KeyField = Annotated[str, AfterValidator(parse_key_field)]
FieldName = Annotated[str, AfterValidator(parse_field_name)]
CookieCondition = Annotated[str, AfterValidator(parse_cookie_condition)]
FieldCondition = Annotated[str, AfterValidator(parse_field_condition)]
ParameterCondition = Annotated[str, AfterValidator(parse_parameter_condition)]
Method = Literal["GET", "HEAD"]
Ignorable = Annotated[
    Literal[
        "cache-control",
        "expires",
        "pragma",
        "set-cookie",
        "vary",
        "authorization",
        "request-cache-control",
    ],
    BeforeValidator(in_lower_case),
]
