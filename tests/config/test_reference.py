"""The documentation that is generated from the schema: the README's table, the JSON Schema."""

import re
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import keys, parse
from proxy.config.reference import BEGIN, END, json_schema, main, put_into, reference
from proxy.config.schema import SECTIONS
from proxy.config.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size

ROOT = Path(__file__).parents[2]


def test_the_readme_has_the_present_reference() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme == put_into(readme), "run: python -m proxy.config.reference README.md"


def test_the_reference_has_every_key_of_every_table_with_its_default() -> None:
    text = reference()
    for heading, table in SECTIONS.items():
        section = text.partition(f"### `{heading.split(' ')[0]}`")[2]
        for key in keys(table):
            assert f"| `{key}` |" in section
    assert '| `header` | `"20s"` |' in text
    assert '| `workers` | `"auto"` |' in text
    assert '| `index` | `["index.html"]` |' in text
    assert "| `listing` | `false` |" in text
    assert "| `path` | *required* |" in text
    assert "| `user` | none |" in text
    assert "| `max_connections` | `10` |" in text


def test_every_row_of_the_reference_has_three_cells() -> None:
    for line in reference().splitlines():
        if line.startswith("| `"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4


def test_a_table_lists_what_is_its_own_before_what_it_shares() -> None:
    app = reference().partition("### `[app.NAME]`")[2]
    assert app.index("| `wsgi` |") < app.index("| `connect_timeout` |")


def test_the_reference_replaces_what_stands_between_its_markers() -> None:
    readme = put_into(f"before\n{BEGIN}\nbygone\n{END}\nafter\n")
    assert readme.startswith(f"before\n{BEGIN}\n")
    assert readme.endswith(f"{END}\nafter\n")
    assert "bygone" not in readme
    assert put_into(readme) == readme


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no lines"):
        put_into("no markers")


def test_the_module_prints_the_reference_or_puts_it_into_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    assert capsys.readouterr().out == reference()
    file = tmp_path / "README.md"
    file.write_text(f"{BEGIN}\n{END}\n")
    main([str(file)])
    assert reference() in file.read_text()


def every_node(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [inner for item in node for inner in every_node(item)]
    if isinstance(node, dict):
        return [node, *(inner for item in node.values() for inner in every_node(item))]
    return []


def test_the_json_schema_names_its_draft_and_describes_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["route"]
    for heading, table in SECTIONS.items():
        definition = schema["$defs"][table.__name__]
        assert definition["additionalProperties"] is False
        assert set(definition["properties"]) == keys(table), heading
        for part in definition["properties"].values():
            assert part["description"]
            assert "title" not in part


def test_the_json_schema_has_no_null_because_toml_has_none() -> None:
    for node in every_node(json_schema()):
        assert node.get("type") != "null"
        assert "default" not in node or node["default"] is not None


def test_the_json_schema_has_the_same_defaults_as_the_reference() -> None:
    properties = json_schema()["$defs"]["Limits"]["properties"]
    assert properties["body"]["default"] == "1GiB"
    assert {"type": "string", "pattern": SIZE_PATTERN} in properties["body"]["anyOf"]


@pytest.mark.parametrize("text", ["64KiB", "10kB", "10 MB", "0", "1.5gib", "7B"])
def test_the_pattern_of_sizes_takes_what_the_reader_takes(text: str) -> None:
    assert parse_size(text) >= 0
    assert re.search(SIZE_PATTERN, text)


@pytest.mark.parametrize("text", ["8k", "1.5", "", "B", "-1B", "1 KB "])
def test_the_pattern_of_sizes_refuses_what_the_reader_refuses(text: str) -> None:
    assert not re.search(SIZE_PATTERN, text)
    with pytest.raises(ValueError, match=r"size|unit|whole"):
        parse_size(text)


@pytest.mark.parametrize("text", ["500ms", "10s", "1.5m", "2 h", "1d"])
def test_the_pattern_of_durations_takes_what_the_reader_takes(text: str) -> None:
    assert parse_duration(text) > 0
    assert re.search(DURATION_PATTERN, text)


@pytest.mark.parametrize("text", ["10", "10S", "s", "1h30m", ""])
def test_the_pattern_of_durations_refuses_what_the_reader_refuses(text: str) -> None:
    assert not re.search(DURATION_PATTERN, text)
    with pytest.raises(ValueError, match=r"duration|unit"):
        parse_duration(text)


def test_the_demo_s_configuration_is_valid() -> None:
    file = ROOT / "proxy.toml"
    config = parse(file.read_text("utf-8"), file)
    assert list(config.app) == ["timeline"]
    assert config.app["timeline"].wsgi == "backend.wsgi:app"
    assert [route.path for route in config.route] == ["/static/*", "/*"]
