"""Becomes the server of an application's `command`, and sees that it ends with proxyd.

Run as a script by the master (see app_start.py), with nothing but the standard library.

    serve_command.py PROGRAM ARGUMENT…

The server knows nothing of the life line on standard input. A process of its own watches that, in
the same group, so that it ends with the server; the server keeps this pid and its parent.
"""

import os
import signal
import sys
from contextlib import suppress

# sysexits.h EX_CONFIG, as serve_wsgi.py: starting again would not help.
CANNOT_LOAD = 78


def main(arguments: list[str]) -> None:
    """Watch standard input in another process, and run the program in this one."""
    if os.fork() == 0:
        if os.fork() == 0:  # nobody's child, so that the server need not wait for it
            watch()
        os._exit(0)
    os.wait()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        os.execvp(arguments[0], arguments)  # noqa: S606 - the person's own command
    except OSError as error:
        looked = "" if "/" in arguments[0] else f" in {os.environ.get('PATH', os.defpath)}"
        print(  # noqa: T201 - proxyd logs this process's output
            f'"{arguments[0]}" cannot be run: {error.strerror}{looked}', file=sys.stderr, flush=True
        )
        sys.exit(CANNOT_LOAD)


def watch() -> None:
    """End the whole group when the other end of standard input is gone, which is the master."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # the master reads the server's output to its end
    os.dup2(null, 2)
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
