"""What an [app.NAME] may say of its processes, and how it is read.

Validators raise ValueError, as those of `kinds` do.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Final, final

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from proxy.config.upstreams import PROBE_SCHEMA, Probe, read_probe
from proxy.config.values import parse_path_pattern

PLACEHOLDER = re.compile(r"\{([A-Za-z_]*)\}")
PLACES: Final = ("socket", "port")
COMMAND_FORM = 'command = ["gunicorn", "--bind", "unix:{socket}", "shop:app"]'


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A server that is not ours: its arguments, with {socket} or {port} in them or in `env`."""

    arguments: tuple[str, ...]

    def on_port(self, env: dict[str, str]) -> bool:
        """Whether it listens on a port, rather than on a unix socket."""
        return "port" in placeholders([*self.arguments, *env.values()])


def placeholders(texts: list[str]) -> set[str]:
    """Return the names in braces."""
    return {name for text in texts for name in PLACEHOLDER.findall(text)}


def filled(text: str, place: dict[str, str]) -> str:
    """Return a text with its placeholders replaced."""
    return PLACEHOLDER.sub(lambda found: place.get(found[1], found[0]), text)


def read_command(value: object) -> Command:
    """Return a command; which place it is given is judged together with `env`."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be a list of texts, no shell reads it; write {COMMAND_FORM}")
    if not value or not value[0]:
        raise ValueError(f"names no program; write {COMMAND_FORM}")
    if any("\0" in item for item in value):
        raise ValueError("has a NUL character")
    return Command(arguments=tuple(value))


def check_places(command: Command, env: dict[str, str]) -> None:
    """Check that a server is told where to listen, and only one place; raises ValueError."""
    named = placeholders([*command.arguments, *env.values()])
    if unknown := sorted(named - {*PLACES}):
        raise ValueError(
            f"has the placeholder {{{unknown[0]}}}; there are {{socket}} and {{port}}, here and in"
            " `env`"
        )
    if not named:
        raise ValueError(
            "does not tell the server where to listen: write {socket} (a path that only proxyd can"
            f" reach) or {{port}} where it belongs, here or in `env`, as {COMMAND_FORM}"
        )
    if len(named) > 1:
        raise ValueError("has {socket} and {port}; proxyd connects to one of them, {socket} if any")


def read_mount(text: str) -> str:
    """Return the path below which an application lives."""
    if text in ("", "/"):
        raise ValueError(
            'is where an application lives anyway; leave `mount` out, or write "/shop"'
        )
    if text.endswith(("/", "/*")):
        raise ValueError(f'has no slash at its end; write "{text.rstrip("/*")}"')
    parse_path_pattern(text)
    if "%" in text:
        raise ValueError(f'"{text}" has an escape; choose a path of plain characters')
    return text


def read_liveness(value: object, info: ValidationInfo) -> Probe:
    """Return what is asked of a process again and again."""
    if isinstance(value, dict) and "rise" in value:
        raise ValueError("has no `rise`: a process that failed it `fall` times is replaced")
    return read_probe(value, info, "liveness")


def read_readiness(value: object, info: ValidationInfo) -> Probe:
    """Return what is asked of a process before it gets requests, and ever after."""
    return read_probe(value, info, "readiness")


CommandSetting = Annotated[
    Command,
    PlainValidator(read_command),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1}),
]
Mount = Annotated[
    str, AfterValidator(read_mount), Field(json_schema_extra={"pattern": "^/.*[^/*]$"})
]
ReadinessSetting = Annotated[Probe, PlainValidator(read_readiness), WithJsonSchema(PROBE_SCHEMA)]
LivenessSetting = Annotated[Probe, PlainValidator(read_liveness), WithJsonSchema(PROBE_SCHEMA)]
