"""Becomes the server of an application's `command`, and sees that it ends with proxyd.

Run as a script by the master (see app_start.py), with nothing but the standard library.

    serve_command.py SOCKET PROGRAM ARGUMENT…

The server knows nothing of the life line on standard input. A process of its own watches that, in
the same group, so that it ends with the server; the server keeps this pid and its parent.

SOCKET is the one that the server will listen on, when the workers are another user than it: that
process then lets everybody connect who may enter the folder. "" is none.
"""

import os
import select
import signal
import sys
from contextlib import suppress

# sysexits.h EX_CONFIG, as serve_wsgi.py: starting again would not help.
CANNOT_LOAD = 78

# How often to look whether the server has made its socket, which nothing tells of.
_LOOK_S = 0.02


def main(arguments: list[str]) -> None:
    """Watch standard input in another process, and run the program in this one."""
    path, *arguments = arguments
    if os.fork() == 0:
        if os.fork() == 0:  # nobody's child, so that the server need not wait for it
            watch(path)
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


def watch(path: str) -> None:
    """End the whole group when the other end of standard input is gone, which is the master.

    Until then open the socket at `path`, when it comes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # the master reads the server's output to its end
    os.dup2(null, 2)
    while path and not select.select([0], [], [], _LOOK_S)[0]:
        # Most servers leave it to the umask, which is for the server's own user alone.
        with suppress(FileNotFoundError):
            os.chmod(path, 0o666)  # noqa: S103 - its folder lets nobody in but the workers
            path = ""
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
