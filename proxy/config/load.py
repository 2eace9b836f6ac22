"""Reads proxy.toml: a Config, or one ConfigError with every mistake, its line and the way out."""

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.config.kinds import Table, UnknownTargetError
from proxy.config.locate import KeyPath, Source, key_text, locate
from proxy.config.schema import SECTIONS, Config
from proxy.errors import ConfigError

STARTER = """\
[[route]]
path = "/static/*"
files = "static"

[[route]]
path = "/*"
to = "site"

[app.site]
wsgi = "mypackage.wsgi:app"
"""

# Beside another mistake, pydantic says that it could not make a default; that is no news.
CONSEQUENCES = {"default_factory_not_called"}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Mistake:
    """One thing that is wrong in the file."""

    line: int
    key: str
    text: str


def load(path: Path) -> Config:
    """Read and validate the file at `path`."""
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> Config:
    """Validate `text`; `path` is where relative paths begin, and what mistakes are reported in."""
    try:
        data = tomllib.loads(text)
        lines = locate(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(syntax_mistake(text, path, error)) from None
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None  # thousands of digits
    except RecursionError:
        raise ConfigError(f"{path} cannot be read: its values are nested too deeply") from None
    source = Source(file=path.absolute(), name=str(path), text=text, lines=lines)
    try:
        return Config.read(data, source)
    except ValidationError as error:
        found = error.errors(include_url=False)
    mistakes = sorted({mistake(one, source) for one in found if one["type"] not in CONSEQUENCES})
    raise ConfigError(report(mistakes, path))


def read_text(path: Path) -> str:
    """Return the text of the file; a byte order mark, which some editors write, is left out."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {path.absolute()}\n"
            f"Name your configuration with -c FILE, or begin with this one:\n\n{STARTER}"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; name the file: -c {path / 'proxy.toml'}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def syntax_mistake(text: str, path: Path, error: tomllib.TOMLDecodeError) -> str:
    """Show the place at which `text` stops being TOML."""
    message = str(error)
    lines = text.replace("\r\n", "\n").split("\n")
    found = re.search(r" \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)$", message)
    if found is None:
        return f"{path} is not TOML: {message}"
    while len(lines) > 1 and found[1] is None and not lines[-1].strip():
        lines.pop()
    line = int(found[1] or len(lines))
    column = int(found[2] or len(lines[-1]) + 1)
    excerpt = lines[line - 1].replace("\t", " ")
    return (
        f"{path}:{line}:{column}: this is not TOML: {message[: found.start()]}\n"
        f"  {excerpt}\n"
        f"  {' ' * (column - 1)}^"
    )


def report(mistakes: list[Mistake], path: Path) -> str:
    """Write all mistakes as one message, in the order of the file."""
    lines = [f"{path}:{one.line}: {one.key}: {one.text}" for one in mistakes]
    if len(lines) > 1:
        lines.append(f"{len(lines)} mistakes")
    return "\n".join(lines)


def mistake(error: ErrorDetails, source: Source) -> Mistake:
    """Say one of pydantic's errors in the words of proxy.toml."""
    key = key_path(error["loc"])
    return Mistake(line=source.line(key), key=key_text(key), text=explain(error, key))


def key_path(loc: tuple[str | int, ...]) -> KeyPath:
    """Return the path in the file: without pydantic's mark for keys and the kind of a route."""
    path = tuple(part for part in loc if part != "[key]")
    return path[:2] + path[3:] if path[0] == "route" else path


def explain(error: ErrorDetails, key: KeyPath) -> str:
    """Return what is wrong and what to write instead."""
    value = error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return told(context["error"])
        case "extra_forbidden":
            return unknown_key(error["loc"], key)
        case "missing":
            return missing_key(error["loc"])
        case "string_type":
            return f"must be a text in quotes, not {shown(value)}"
        case "bool_type":
            return f"must be true or false, not {shown(value)}"
        case "int_type":
            return f"must be a whole number, without quotes, not {shown(value)}"
        case "greater_than_equal" | "less_than_equal":
            bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
            return f"must be {bound}, not {shown(value)}"
        case "literal_error":
            return not_one_of(re.findall("'([^']*)'", context["expected"]), value)
        case "tuple_type" | "dict_type" | "model_type":
            return wrong_brackets(key, value)
    return error["msg"]  # pragma: no cover - a type of error that the schema does not use


def told(error: ValueError) -> str:
    """Return the words of one of our own validators, with the nearest name where one is meant."""
    if isinstance(error, UnknownTargetError):
        known = f"there are: {', '.join(error.known)}" if error.known else ""
        hint = nearest(error.name, error.known) or known
        return f"{error}; {hint}" if hint else str(error)
    return str(error)


def unknown_key(loc: tuple[str | int, ...], key: KeyPath) -> str:
    """Say which key was meant, or where it belongs, or which keys there are."""
    name = str(key[-1])
    heading, table = table_at(loc)
    if heading == "[[route]] with files":
        if name == "to":
            return "a route has `files` or `to`, not both; make it two routes"
        if name == "cache":
            return (
                "is only for routes with `to`; files are kept in memory anyway ([files]), and "
                "`cache_control` says what browsers keep"
            )
    if heading.startswith("[[route]]"):
        for other in ("files", "to"):
            if name in keys(SECTIONS[f"[[route]] with {other}"]) - keys(table):
                return f"is only for routes with `{other}`"
    if close := nearest(name, sorted(keys(table))):
        return f"there is no such key; {close}"
    for other, elsewhere in SECTIONS.items():
        if name in keys(elsewhere):
            return f"there is no such key here; it belongs to {other.removesuffix(' with to')}"
    return f"there is no such key; there are: {', '.join(sorted(keys(table)))}"


def missing_key(loc: tuple[str | int, ...]) -> str:
    """Say what a table cannot do without."""
    match loc:
        case ("route",):
            return "is missing, so nothing would be served; write [[route]] with `path` and `to`"
        case ("route", _, _, "files" | "to"):
            return "is missing: a route needs `files` (a folder) or `to` (an app or an upstream)"
        case ("app", *_):
            return 'is missing; write wsgi = "module:object"'
    return "is missing, and there is no default"


def wrong_brackets(key: KeyPath, value: object) -> str:
    """Say how a table or list is written that was written as something else."""
    match key:
        case ("listen" | "route", *rest) if len(rest) < 2:
            return f"is a list of tables; write [[{key[0]}]], and its keys in the lines below"
        case ("app" | "upstream", *rest) if len(rest) < 2:
            return f"has tables with names; write [{key[0]}.NAME], and its keys in the lines below"
        case (str(name),) | ("app" | "route", _, str(name)) if name in ("env", "headers"):
            return f'must be a table, not {shown(value)}; write {name} = {{ NAME = "value" }}'
        case ("route", _, "cache", "status_ttl"):
            return f'must be a table, not {shown(value)}; write status_ttl = {{ 404 = "10s" }}'
        case ("route", _, "cache", "rules") | ("route", _, "cache", "rules", int()):
            return "is a list of tables; write [[route.cache.rules]], and its keys in lines below"
        case ("route", _, "cache", "key", "query"):
            return f'must be a table, not {shown(value)}; write query = {{ ignore = ["utm_*"] }}'
        case ("route", _, "cache", *rest) if rest in ([], ["key"], ["bypass"], ["no_store"]):
            name = ".".join(["route.cache", *map(str, rest)])
            return f"is a table; write [{name}], and its keys in the lines below"
        case (str(name),):
            return f"is a table; write [{name}], and its keys in the lines below"
    return f"must be a list in [ ], not {shown(value)}"


def not_one_of(choices: list[str], value: object) -> str:
    """Say what may stand here."""
    words = ", ".join(f'"{choice}"' for choice in choices)
    hint = nearest(value, choices) if isinstance(value, str) else ""
    said = f"must be one of {words}, not {shown(value)}"
    return f"{said}; {hint}" if hint else said


def nearest(name: str, names: list[str]) -> str:
    """Return the question whether the nearest of `names` was meant, or nothing."""
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""


def shown(value: object) -> str:
    """Write a value as TOML does, in short."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if len(value) <= 40 else f'"{value[:37]}…"'
        case list():
            return "a list"
        case dict():
            return "a table"
    return str(value)


def table_at(loc: tuple[str | int, ...]) -> tuple[str, type[Table]]:
    """Return the table in which `loc` is a key, with its heading."""
    if len(loc) == 1:
        return "", Config
    name = loc[0]
    if name == "route":
        inner = [part for part in loc[3:-1] if isinstance(part, str)]
        name = ".".join(["route", *inner]) if inner else f"[[route]] with {loc[2]}"
    for heading, table in SECTIONS.items():
        if name == heading or heading.strip("[]").removesuffix(".NAME") == name:
            return heading, table
    raise LookupError(loc)  # pragma: no cover - SECTIONS has every table


def keys(table: type[Table]) -> set[str]:
    """Return the names that may stand in `table`."""
    return {field.alias or name for name, field in table.model_fields.items()}
