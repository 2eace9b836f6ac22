"""What every supported Python reads the same in a regular expression."""

import re
from pathlib import Path

import pytest

import proxy

SOURCES = Path(proxy.__file__).parent


@pytest.mark.once
def test_no_group_is_possessive_or_atomic() -> None:
    """Before 3.11.5 such a group may match what it should not (python/cpython#106052)."""
    possessive = re.compile(r"""^[^#]*\b(?:rb?|br)["'].*(?:\)[*+?]\+|\(\?>)""", re.MULTILINE)
    found = [path for path in SOURCES.rglob("*.py") if possessive.search(path.read_text())]
    assert found == []
