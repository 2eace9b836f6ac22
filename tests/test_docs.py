"""What the documents promise is there: every function and every test that a table names."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "docs" / "rfc9111.md").read_text("utf-8")
ROWS = [line.split(" | ") for line in TABLE.splitlines() if line.startswith(("| §", "| RFC"))]


def named(column: int) -> set[str]:
    return {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[column])}


def text_of(folder: str) -> str:
    return "\n".join(path.read_text("utf-8") for path in (ROOT / folder).rglob("*.py"))


def test_every_row_of_the_table_of_rfc_9111_names_a_test_or_says_why_not() -> None:
    assert len(ROWS) > 150
    bare = [row for row in ROWS if "`test_" not in row[3] and not row[2].startswith("not ")]
    assert not bare


def test_every_test_that_the_table_names_is_there() -> None:
    tests = set(re.findall(r"def (test_\w+)", text_of("tests")))
    assert {name for name in named(3) if name.startswith("test_")} <= tests


def test_every_function_that_the_table_names_is_there() -> None:
    defined = re.compile(r"(?:def|class) (\w+)|^\s*(\w+)(?:: [\w\[\], ]+)? = ", re.MULTILINE)
    known = set(defined.findall(text_of("proxy")))
    names = {name for pair in known for name in pair if name}
    functions = {name.rpartition(".")[2] for name in named(2) if re.fullmatch(r"[\w/]+\.\w+", name)}
    assert functions <= names, functions - names
