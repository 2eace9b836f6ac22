"""What Timeline takes from its environment.

Every setting has a default that works in a fresh checkout; a wrong one ends the start with a
message that names the variable.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent


class SettingsError(Exception):
    """Timeline cannot start as it is set up; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the data lives, and the bounds of what one process gives away.

    Uploads and the session secret live beside the database.
    """

    database: Path = _HERE / "var" / "timeline.sqlite3"
    upload_limit_bytes: int = 1 << 30
    """The largest upload; proxyd's own limit for the route (`body_limit`) may be lower."""
    uploads_total_bytes: int = 2 << 30
    """What all uploads may hold on disk; the oldest go first."""
    max_streams: int = 4
    """Event streams at once. Each holds a thread, so keep it below the server's threads (8)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read TIMELINE_DATABASE, TIMELINE_UPLOAD_LIMIT_BYTES and TIMELINE_MAX_STREAMS.

        Raises SettingsError.
        """
        default = cls()
        database = environment.get("TIMELINE_DATABASE")
        limit_bytes = _number(environment, "TIMELINE_UPLOAD_LIMIT_BYTES", 1 << 30)
        return cls(
            database=Path(database).absolute() if database else default.database,
            upload_limit_bytes=limit_bytes,
            uploads_total_bytes=max(2 * limit_bytes, default.uploads_total_bytes),
            max_streams=_number(environment, "TIMELINE_MAX_STREAMS", default.max_streams),
        )


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise SettingsError(f"{name} is {text!r}; give a whole number of 1 or more, or unset it.")
    return int(text)
