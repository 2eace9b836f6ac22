"""The addresses of the assets, whose names hold a fingerprint of their content.

`python -m backend.fingerprint` writes the manifest; it is read once, for assets change with a
release, and a release starts the application anew.
"""

import functools
import json

from backend.fingerprint import MANIFEST, STATIC
from backend.settings import SettingsError


def asset(name: str) -> str:
    """Return the path of an asset, such as `/static/css/timeline.3f2a9c1b.css`."""
    return f"/static/{manifest()[name]}"


@functools.cache
def manifest() -> dict[str, str]:
    """Return fingerprinted names by plain names, both below `static/`. Raises SettingsError."""
    path = STATIC / MANIFEST
    try:
        names: dict[str, str] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} cannot be read ({error}); write it with `python -m backend.fingerprint`."
        ) from error
    return names
