"""Names every asset after its content, and writes down which name is which.

`python -m backend.fingerprint` renames `css/timeline.css` to `css/timeline.3f2a9c1b.css` (the first
8 hexadecimal digits of the content's SHA-256), and writes `static/manifest.json` from plain names
to those. A name that changes with its content may be cached for ever. Run it after every change of
an asset; a file edited under its old fingerprint gets a new one, a plain file replaces the old.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

STATIC = Path(__file__).parent.parent / "static"
MANIFEST = "manifest.json"
_FINGERPRINT = re.compile(r"\.[0-9a-f]{8}(?=\.[^.]+$)")


def plain_name(name: str) -> str:
    """Return the name without a fingerprint."""
    return _FINGERPRINT.sub("", name)


def fingerprinted_name(name: str, content: bytes) -> str:
    """Return the name with the fingerprint of the content before its last suffix."""
    stem, _, suffix = plain_name(name).rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:8]}.{suffix}"


def fingerprint(folder: Path) -> dict[str, str]:
    """Rename every file below the folder, write the manifest, and return it."""
    manifest: dict[str, str] = {}
    # A plain name sorts behind none of its fingerprinted ones here, so the new file wins.
    for path in sorted(_assets(folder), key=lambda path: path.name != plain_name(path.name)):
        plain = path.with_name(plain_name(path.name)).relative_to(folder).as_posix()
        if plain in manifest:
            path.unlink()
            continue
        to = path.with_name(fingerprinted_name(path.name, path.read_bytes()))
        path.rename(to)
        manifest[plain] = to.relative_to(folder).as_posix()
    text = json.dumps(manifest, indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")
    return manifest


def _assets(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    ]


if __name__ == "__main__":
    sys.stdout.write(f"{len(fingerprint(STATIC))} assets in {STATIC / MANIFEST}\n")
