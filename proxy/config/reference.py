"""What can be written into proxy.toml, for people and for editors, generated from the schema.

python -m proxy.config.reference            the reference table, as Markdown
python -m proxy.config.reference README.md  the same, put into its place in that file
"""

import ast
import inspect
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticUndefined, core_schema

from proxy.config.kinds import Table
from proxy.config.schema import SECTIONS, Config

BEGIN = "<!-- reference:begin -->"
END = "<!-- reference:end -->"


class TomlSchema(GenerateJsonSchema):
    """JSON Schema of what TOML can hold: there is no null, so an optional key is a missing one."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Leave titles out: they would repeat the names."""
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Describe the value without its None."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave a default of None out."""
        if "default" in schema and schema["default"] is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Describe the keys as the reference does."""
        described = super().model_schema(schema)
        for key, meaning in meanings(schema["cls"]).items():
            label = schema["cls"].model_fields[key].alias or key
            described["properties"][label]["description"] = meaning
        return described


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of proxy.toml, draft 2020-12."""
    schema = Config.model_json_schema(schema_generator=TomlSchema)
    return {"$schema": TomlSchema.schema_dialect, **schema, "title": "proxy.toml"}


def reference() -> str:
    """Return the reference as Markdown: a table for each table of proxy.toml."""
    return "\n".join(section(heading, table) for heading, table in SECTIONS.items())


def section(heading: str, table: type[Table]) -> str:
    """Return the keys of one table, those that are its own before those that it shares."""
    name, _, rest = heading.partition(" ")
    lines = [f"### `{name}` {rest}".rstrip(), "", " ".join((table.__doc__ or "").split()), ""]
    lines += ["| key | default | meaning |", "|---|---|---|"]
    defaults, described = written_defaults(table), meanings(table)
    for key, field in own_first(table):
        label = field.alias or key
        lines.append(f"| `{label}` | {defaults[key]} | {cell(described[key])} |")
    return "\n".join([*lines, ""])


def meanings(table: type[Table]) -> dict[str, str]:
    """Return the text under each field, those of the tables that it extends as well.

    Read from the sources, and here: pydantic would do so whenever proxyd starts.
    """
    found: dict[str, str] = {}
    for part in reversed(table.__mro__[: table.__mro__.index(Table)]):
        for field, text in pairwise(ast.walk(ast.parse(inspect.getsource(part)))):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(ast.Constant(str(meaning))):
                    found[key] = inspect.cleandoc(meaning)
    return found


def own_first(table: type[Table]) -> list[tuple[str, FieldInfo]]:
    """Return the fields of `table`; a subclass has its own reasons to exist first."""
    own = inspect.get_annotations(table)
    return sorted(table.model_fields.items(), key=lambda item: item[0] not in own)


def written_defaults(table: type[Table]) -> dict[str, str]:
    """Return each field's default as a person would write it."""
    values: dict[str, Any] = {}
    for key, field in table.model_fields.items():
        values[key] = field.get_default(call_default_factory=True, validated_data=values)
    return {key: written(value) for key, value in values.items()}


def written(value: object) -> str:
    """Write a default in TOML, in a table cell."""
    if value is PydanticUndefined:
        return "*required*"
    if value is None:
        return "none"
    return f"`{toml(value)}`"


def toml(value: object) -> str:
    """Write a value of the kinds that defaults have."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(toml, value))}]"
    return str(value)


def cell(text: str) -> str:
    """Write a text so that it stays in one cell."""
    return " ".join(text.split()).replace("|", "\\|")


def put_into(readme: str) -> str:
    """Return `readme` with the present reference between its two markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there are no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def main(arguments: list[str]) -> None:
    """Print the reference, or put it into the files that are named."""
    for name in arguments:
        file = Path(name)
        file.write_text(put_into(file.read_text("utf-8")), "utf-8")
    if not arguments:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main(sys.argv[1:])
