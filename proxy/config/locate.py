"""Where in the text of proxy.toml each key stands; tomllib keeps no positions.

Pure. Reads text that tomllib has accepted, so it only has to find the ends of things, not to judge
them: keys, strings of four kinds, brackets, comments.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KeyPath = tuple[str | int, ...]

BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# The three quotes that end a long string may be preceded by two more that belong to it.
STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
# Numbers, booleans, dates; a date may have a space in it.
PLAIN = re.compile(r"[^,\]}#\n]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The file that a configuration was read from.

    `file` is absolute; `name` is the path as the person wrote it; `text` is what stood in it, which
    may have changed since; `lines` has the line, from 1, of every key and table, where an array's
    elements have their index from 0 in the path.
    """

    file: Path
    name: str
    text: str
    lines: Mapping[KeyPath, int]

    def line(self, key: KeyPath) -> int:
        """Return the line of `key`, or of the nearest table around it that is in the file."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def where(self, key: KeyPath) -> str:
        """Return `file:line` of `key`, the form that editors and terminals turn into a link."""
        return f"{self.name}:{self.line(key)}"


def key_text(key: KeyPath) -> str:
    """Write a key path as people do: `route[0].path`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if BARE_KEY.fullmatch(part) else '"' + part.replace('"', '\\"') + '"'
            text += f".{name}" if text else name
    return text


def locate(text: str) -> dict[KeyPath, int]:
    """Return the line of every key and table in `text`, which is valid TOML."""
    return Locator(text).run()


class Locator:
    """One reading of one text, left to right."""

    __slots__ = ("at", "counts", "line_starts", "lines", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line_starts = [0, *(end.end() for end in re.finditer("\n", text))]
        self.lines: dict[KeyPath, int] = {}
        # How many [[tables]] each array has so far: a path through it means the last one.
        self.counts: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        """Read the whole text."""
        table: KeyPath = ()
        self.skip(BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self.header(2)
            elif self.text.startswith("[", self.at):
                table = self.header(1)
            else:
                self.pair(table)
            self.skip(BLANK)
        return self.lines

    def header(self, brackets: int) -> KeyPath:
        """Read `[a.b]` or `[[a.b]]`; return the path that the following keys belong to."""
        line = self.line()
        self.at += brackets
        *parents, last = self.dotted_key()
        self.at += brackets
        path: KeyPath = ()
        for part in parents:
            path = (*path, part)
            self.lines.setdefault(path, line)
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        path = (*path, last)
        if brackets == 1:
            self.lines[path] = line
            return path
        self.lines.setdefault(path, line)
        index = self.counts.get(path, 0)
        self.counts[path] = index + 1
        path = (*path, index)
        self.lines[path] = line
        return path

    def pair(self, table: KeyPath) -> None:
        """Read `key = value` of `table`."""
        line = self.line()
        path = table
        for part in self.dotted_key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.at += 1  # the equals sign
        self.skip(BLANK)
        self.value(path)

    def value(self, path: KeyPath) -> None:
        """Read one value; the parts of arrays and inline tables are noted below `path`."""
        opening = self.text[self.at]
        if opening == "[":
            self.array(path)
        elif opening == "{":
            self.inline_table(path)
        elif opening in "\"'":
            self.skip(STRING)
        else:
            self.skip(PLAIN)

    def array(self, path: KeyPath) -> None:
        """Read `[a, b]`; an element's path ends with its index."""
        index = 0
        self.at += 1
        self.skip(BLANK)
        while self.text[self.at] != "]":
            self.lines[*path, index] = self.line()
            self.value((*path, index))
            index += 1
            self.comma()
        self.at += 1

    def inline_table(self, path: KeyPath) -> None:
        """Read `{ a = 1 }`."""
        self.at += 1
        self.skip(BLANK)
        while self.text[self.at] != "}":
            self.pair(path)
            self.comma()
        self.at += 1

    def comma(self) -> None:
        """Step over what may stand between two elements."""
        self.skip(BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self.skip(BLANK)

    def dotted_key(self) -> list[str]:
        """Read `a."b c".d`, up to the sign behind it."""
        parts = []
        while True:
            self.skip(BLANK)
            parts.append(self.simple_key())
            self.skip(BLANK)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def simple_key(self) -> str:
        """Read one part of a dotted key, bare or quoted."""
        if self.text[self.at] in "\"'":
            quoted = self.skip(STRING)
            return str(tomllib.loads(f"key = {quoted}")["key"])
        return self.skip(BARE_KEY)

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Step over `pattern`, which matches here because the text is valid; return its text."""
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"not TOML at line {self.line()}")
        self.at = found.end()
        return found[0]

    def line(self) -> int:
        """Return the line that is being read, from 1."""
        return bisect_right(self.line_starts, self.at)
