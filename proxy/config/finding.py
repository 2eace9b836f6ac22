"""One thing that `proxyd check` has found."""

from dataclasses import dataclass
from typing import Literal

from proxy.config.locate import KeyPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that will not work ("error"), or that is hardly meant so ("warning").

    `key` is the place in proxy.toml, `fix` the way out.
    """

    level: Literal["error", "warning"]
    key: KeyPath
    text: str
    fix: str


def error(key: KeyPath, text: str, fix: str) -> Finding:
    """Return a finding that keeps the server from working."""
    return Finding(level="error", key=key, text=text, fix=fix)


def warning(key: KeyPath, text: str, fix: str) -> Finding:
    """Return a finding that is hardly meant so."""
    return Finding(level="warning", key=key, text=text, fix=fix)
