"""Lines of keys: every style of TOML, and text in strings that looks like structure."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.locate import KeyPath, Source, key_text, locate


def every_path(value: object, path: KeyPath = ()) -> set[KeyPath]:
    """Return the paths of all keys and elements in what tomllib made."""
    found = {path} if path else set()
    if isinstance(value, dict):
        items: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return found
    for key, inner in items:
        found |= every_path(inner, (*path, key))
    return found


HARD = '''\
# [not.a.table]
top = "x = 1" # comment with [brackets] and "quotes"
"quoted key" . 'and literal'.bare = 1

[server]
workers = "auto"
long = """
[fake]
key = "no" \\""" still in it
""""
literal = \'\'\'
it's [[fake]]
\'\'\'
list = [
  1, # ] not the end
  "]", [ "nested", { deep = "}" } ],
]
inline = { a = 1, b.c = { d = [ 2, 3 ] } }
date = 1979-05-27 07:32:00Z
"\\u00e9" = 1

[[route]]
path = "/a"
  [route.headers]
  X = "1"
[[route]]
path = "/b"
[[route.inner]]
name = 1
[[route.inner]]
name = 2
[a.b.c]
d = 1
[a.b]
e = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("quoted key", "and literal", "bare"), 3),
        (("server",), 5),
        (("server", "workers"), 6),
        (("server", "long"), 7),
        (("server", "literal"), 11),
        (("server", "list"), 14),
        (("server", "list", 0), 15),
        (("server", "list", 1), 16),
        (("server", "list", 2, 1, "deep"), 16),
        (("server", "inline", "b", "c", "d", 1), 18),
        (("server", "date"), 19),
        (("server", "é"), 20),
        (("route",), 22),
        (("route", 0), 22),
        (("route", 0, "headers", "X"), 25),
        (("route", 1), 26),
        (("route", 1, "path"), 27),
        (("route", 1, "inner", 0, "name"), 29),
        (("route", 1, "inner", 1, "name"), 31),
        (("a", "b", "c", "d"), 33),
        (("a", "b"), 34),
        (("a", "b", "e"), 35),
    ],
)
def test_each_key_has_its_line(path: KeyPath, line: int) -> None:
    assert locate(HARD)[path] == line


def test_every_key_of_a_hard_file_is_found_and_no_other() -> None:
    assert set(locate(HARD)) == every_path(tomllib.loads(HARD))


def test_line_ends_of_windows_count_once() -> None:
    assert locate("a = 1\r\n\r\nb = [\r\n  2,\r\n]\r\nc = 3")["c",] == 6


def test_text_that_is_not_toml_is_refused() -> None:
    with pytest.raises(ValueError, match="not TOML at line 2"):
        locate("a = 1\n= 2")


# Texts that try to look like structure, in all four kinds of strings.
names = st.text(st.sampled_from("ab-1. \"'[]#=é"), min_size=1, max_size=4)
texts = st.text(st.sampled_from("ab[]{}#=,\n\t "), max_size=8)
scalars = st.one_of(st.integers(), st.booleans(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(names, values, max_size=4)
documents = st.fixed_dictionaries(
    {},
    optional={
        "server": tables,
        "sub": st.dictionaries(names, tables, max_size=2),
        "route": st.lists(tables, min_size=1, max_size=3),
    },
)


def basic(text: str) -> str:
    escaped = "".join(
        f"\\u{ord(character):04x}" if character in '"\\\n\t' else character for character in text
    )
    return f'"{escaped}"'


def written(value: object, draw: st.DataObject) -> str:
    """Write a value in one of TOML's many ways."""
    gap = draw.draw(st.sampled_from(["", " ", "\n", " # ] } = [x]\n "]))
    match value:
        case bool():
            return str(value).lower()
        case str():
            forms = [basic(value), f'"""\n{value}"""', f"'''\n{value}'''"]
            return draw.draw(st.sampled_from(forms if "\n" in value else [*forms, f"'{value}'"]))
        case list():
            return f"[{gap}{f',{gap}'.join(written(item, draw) for item in value)}{gap}]"
        case dict():
            pairs = (f"{basic(key)} = {written(item, draw)}" for key, item in value.items())
            return f"{{ {', '.join(pairs)} }}"
    return str(value)


def document_text(document: dict[str, Any], draw: st.DataObject) -> str:
    lines: list[str] = []

    def table(header: str, content: dict[str, Any]) -> None:
        lines.extend(draw.draw(st.sampled_from([[], ["", "# [x]"]])))
        lines.append(header)
        lines.extend(f"{basic(key)} = {written(item, draw)}" for key, item in content.items())

    if "server" in document:
        table("[server]", document["server"])
    for name, content in document.get("sub", {}).items():
        table(f"[ sub . {basic(name)} ]", content)
    for content in document.get("route", []):
        table("[[route]]", content)
    return "\n".join(lines)


@given(documents, st.data())
def test_whatever_the_style_every_key_is_found_on_a_line_that_holds_it(
    document: dict[str, Any], draw: st.DataObject
) -> None:
    text = document_text(document, draw)
    data = tomllib.loads(text)
    lines = text.split("\n")
    found = locate(text)
    assert set(found) == every_path(data)
    for path, line in found.items():
        last = path[-1]
        if isinstance(last, str):
            assert basic(last) in lines[line - 1] or last in lines[line - 1]


def test_a_key_that_is_not_there_has_the_line_of_the_table_around_it() -> None:
    text = "\n[server]\nuser = 'x'"
    source = Source(
        file=Path("/etc/proxy.toml"), name="etc/proxy.toml", text=text, lines=locate(text)
    )
    assert source.line(("server", "user")) == 3
    assert source.line(("server", "group", "deeper")) == 2
    assert source.line(("elsewhere",)) == 1
    assert source.where(("server", "user")) == "etc/proxy.toml:3"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("server", "workers"), "server.workers"),
        (("route", 2, "try", 0), "route[2].try[0]"),
        (("app", "a b", "env"), 'app."a b".env'),
        (('"',), '"\\""'),
    ],
)
def test_a_key_path_is_written_as_people_do(path: KeyPath, text: str) -> None:
    assert key_text(path) == text
