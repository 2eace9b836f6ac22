"""Names this boot of the machine: while the name is the same, one monotonic clock runs."""

import secrets
from pathlib import Path

# Linux; elsewhere no file says it.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_name(path: Path = _BOOT_ID) -> bytes:
    """Return 16 bytes; where the system has no name for its boots, each process has its own.

    Entries of another boot are reckoned by the wall clock, which is right but less exact.
    """
    try:
        return bytes.fromhex(path.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return secrets.token_bytes(16)
