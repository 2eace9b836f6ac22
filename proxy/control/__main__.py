"""`python -m proxy.control`: with less of the CPU than workers get, imports included."""

import os
import sys
from contextlib import suppress

_NICENESS = 5


def main() -> int:
    """Be modest, then run the control process."""
    with suppress(OSError):
        os.nice(_NICENESS)
    from proxy.control.process import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
