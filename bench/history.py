"""The figures of earlier runs: one file of JSON each, in a folder that git does not look at.

The folder has those of `make bench`, folders in it those of what is measured apart. They are of one
machine, and are of no use on another.
"""

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import BenchError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"


def keep(folder: Path, measured: Mapping[str, Any]) -> Path:
    """Write the figures of a run to a new file, with its time and commit; returns the file."""
    now = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{now:%Y%m%d-%H%M%S-%f}.json"
    kept = {"at": now.isoformat(timespec="seconds"), "commit": commit(), **measured}
    file.write_text(json.dumps(kept, indent=2) + "\n")
    return file


def commit() -> str:
    """Return what git calls the state of the source, "" without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return told.stdout.strip()


def runs(folder: Path) -> list[Path]:
    """Return the files of a folder, oldest first."""
    return sorted(folder.glob("*.json"))


def load(file: Path) -> dict[str, Any]:
    """Read the figures of a run. Raises BenchError."""
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot read {file}: {error}") from None
    if not isinstance(kept, dict) or not isinstance(kept.get("jobs"), dict):
        raise BenchError(f"{file} is not what `make bench` writes")
    return kept
