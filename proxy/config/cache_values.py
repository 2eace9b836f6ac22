"""Values of [route.cache]: statuses, media types, names with a star, conditions on requests.

Pure. As in `values`, each function takes what the person wrote and returns its canonical form, and
failures are ValueError.
"""

import re

from proxy.config.values import FIELD_NAME, FIELD_VALUE

STATUS = re.compile(r"[2-5](xx|[0-9]{2})")
MEDIA_TYPE = re.compile(rf"({FIELD_NAME.pattern})/({FIELD_NAME.pattern})")
# RFC 6265 §4.1.1; a star is a character like others there, and none of a cookie that is in use.
COOKIE_NAME = FIELD_NAME
COOKIE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
PARAMETER = re.compile(r"[^&#\x00-\x20]+")

STATUS_FORMS = '"404" or "5xx" (200 to 599)'

# What a condition or a key cannot look at as a field, and what it is to look at instead.
NO_CONDITION = {"cookie": "write `cookies`", "host": "make it a route of its own, with `host`"}
NO_KEY = {
    "cookie": "write `cookies`",
    "host": "the key holds it, unless `host = false`",
    "forwarded": "proxyd writes it, for each client another",
    "x-real-ip": "proxyd writes it, for each client another",
    "x-request-id": "no two requests have the same",
}
RANGES = ("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since")


def parse_status(value: object) -> str:
    """Read a status, or a hundred of them such as "5xx"."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not STATUS.fullmatch(text.lower()):
        shown = f'"{value}"' if isinstance(value, str) else f"{value}"
        raise ValueError(f"{shown} is not a status such as {STATUS_FORMS}")
    return text.lower()


def parse_media_type(text: str) -> str:
    """Read "text/html" or "image/*"; return it in lower case."""
    if ";" in text:
        raise ValueError(f'"{text}" has parameters; write "{text.partition(";")[0].strip()}"')
    if not MEDIA_TYPE.fullmatch(text) or text.startswith("*"):
        raise ValueError(f'"{text}" is not a media type such as "text/html" or "image/*"')
    return text.lower()


def parse_field_name(text: str) -> str:
    """Read the name of a field."""
    if not FIELD_NAME.fullmatch(text):
        raise ValueError(f'"{text}" is not a field name')
    return text


def parse_key_field(text: str) -> str:
    """Read the name of a request field whose value may be in the key; return it in lower case."""
    name = parse_field_name(text).lower()
    if name in NO_KEY or name.startswith("x-forwarded-"):
        way_out = NO_KEY.get(name, "proxyd writes it; `host` and `scheme` are in the key")
        raise ValueError(f'"{text}" cannot be in the key: {way_out}')
    if name == "range" or name in RANGES:
        raise ValueError(f'"{text}" cannot be in the key: the cache answers it by itself')
    return name


def parse_cookie_name(text: str) -> str:
    """Read the name of one cookie."""
    if "*" in text or not COOKIE_NAME.fullmatch(text):
        raise ValueError(f'"{text}" is not the name of a cookie')
    return text


def parse_cookie_pattern(text: str) -> str:
    """Read the name of a cookie, in which one star stands for anything."""
    if not COOKIE_NAME.fullmatch(one_star(text)):
        raise ValueError(f'"{text}" is not the name of a cookie, such as "_ga" or "_ga_*"')
    return text


def parse_parameter_pattern(text: str) -> str:
    """Read the name of a query parameter, decoded, in which one star stands for anything."""
    if "=" in text or not PARAMETER.fullmatch(one_star(text)):
        raise ValueError(f'"{text}" is not the name of a query parameter: write "page" or "utm_*"')
    return text


def parse_cookie_condition(text: str) -> str:
    """Read "name" or "name=value" of a cookie."""
    name, _, value = one_star(text).partition("=")
    if not COOKIE_NAME.fullmatch(name) or not COOKIE_VALUE.fullmatch(value):
        raise ValueError(f'"{text}" is not a cookie: write "name" or "name=value"')
    return text


def parse_parameter_condition(text: str) -> str:
    """Read "name" or "name=value" of a query parameter, decoded."""
    if not PARAMETER.fullmatch(one_star(text)) or text.startswith("="):
        raise ValueError(f'"{text}" is not a query parameter: write "name" or "name=value"')
    return text


def parse_field_condition(text: str) -> str:
    """Read "Name" or "Name: value" of a request field; the value may have one star."""
    name, colon, value = text.partition(":")
    if not FIELD_NAME.fullmatch(name) or "*" in name:
        raise ValueError(f'"{text}" is not a field: write "Name" or "Name: value"')
    if name.lower() in NO_CONDITION:
        raise ValueError(f'"{name}" is not looked at as a field: {NO_CONDITION[name.lower()]}')
    value = value.strip(" ")
    if colon and not FIELD_VALUE.fullmatch(one_star(value)):
        raise ValueError(f'"{text}" has no value; write "{name}" or "{name}: value"')
    return f"{name}: {value}" if colon else name


def one_star(text: str) -> str:
    """Check that there is at most one star, so that comparing takes no time to speak of."""
    if text.count("*") > 1:
        raise ValueError(f'"{text}" has more than one "*"; write it as several patterns')
    return text
