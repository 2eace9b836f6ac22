"""The `sendfile` of an app or an upstream: the folders whose files it may have proxyd send."""

from pathlib import Path
from typing import Annotated

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.kinds import read_path


def read_sendfile(value: object, info: ValidationInfo) -> dict[str, Path]:
    """Return the folders by the path that X-Accel-Redirect has for each; one alone is for "/"."""
    if isinstance(value, str):
        return {"/": read_path(value, info)}
    if not isinstance(value, dict):
        raise ValueError('must be a folder in quotes, or { "/protected/" = "folder" }')  # noqa: TRY004
    folders: dict[str, Path] = {}
    for prefix, folder in value.items():
        if not prefix.startswith("/") or not prefix.endswith("/") or "//" in prefix:
            raise ValueError(f'"{prefix}" must begin and end with a slash, as "/protected/" does')
        try:
            folders[prefix] = read_path(folder, info)
        except ValueError as error:
            raise ValueError(f'"{prefix}": {error}') from None
    return folders


SendfileSetting = Annotated[
    dict[str, Path],
    PlainValidator(read_sendfile),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        }
    ),
]
