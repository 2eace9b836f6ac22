"""An explanation as data: steps with their facts, and where each of them comes from. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxy.config.locate import KeyPath, Source
from proxy.rules.reasons import Reason

# How a fact bears on the request: it helps, it hinders, it is worth a look, or it is by the way.
Tone = Literal["plain", "good", "bad", "warn", "quiet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of an explanation; `source` is a section of a standard, or a place in proxy.toml."""

    text: str
    source: str = ""
    tone: Tone = "plain"


@dataclass(slots=True, kw_only=True)
class Step:
    """One decision: what it is about, how it went, and its facts."""

    title: str
    verdict: str = ""
    source: str = ""
    tone: Tone = "plain"
    facts: list[Fact] = field(default_factory=list)

    def add(self, text: str, source: str = "", tone: Tone = "plain") -> None:
        """Add a fact."""
        self.facts.append(Fact(text=text, source=source, tone=tone))


@dataclass(slots=True, kw_only=True)
class Explanation:
    """All steps of one request in order, and what would happen to it now."""

    request: str
    configuration: str
    steps: list[Step] = field(default_factory=list)
    outcome: Fact | None = None

    def step(self, title: str, verdict: str = "", source: str = "", tone: Tone = "plain") -> Step:
        """Begin another step."""
        step = Step(title=title, verdict=verdict, source=source, tone=tone)
        self.steps.append(step)
        return step


class Places:
    """Finds the line of proxy.toml for the sources that rules name, for the route of `index`."""

    __slots__ = ("_index", "_lines", "_name")

    def __init__(self, source: Source, index: int | None = None) -> None:
        self._lines: Mapping[KeyPath, int] = source.lines
        self._name = source.file.name
        self._index = index

    def of(self, key: KeyPath) -> str:
        """Return `proxy.toml:12` for a key that is in the file, "" for one that is not."""
        return f"{self._name}:{self._lines[key]}" if key in self._lines else ""

    def route(self, *keys: str | int) -> str:
        """Return the place of a key of the route, or of the route itself."""
        return "" if self._index is None else self.of(("route", self._index, *keys))

    def cache(self, key: str) -> str:
        """Return the place of a key of [route.cache], or its name when the file does not have it.

        Of a dotted key, the nearest part that is there.
        """
        parts = key.split(".")
        while parts:
            if place := self.route("cache", *parts):
                return f"{place} {key}"
            parts.pop()
        return f"[route.cache] {key}"

    def reason(self, reason: Reason) -> str:
        """Return the source of a reason: a section as it is, a key with its line."""
        heading, bracket, key = reason.source.partition("] ")
        return self.cache(key) if bracket and heading == "[route.cache" else reason.source
