"""The control process: started by the master, ends with it; gets JSON on standard input.

What stands in that line is said in process/control_program.py. Standard input stays open: its end
means that the master is gone.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from proxy.config.load import parse
from proxy.control.application import application
from proxy.control.guard import Guard
from proxy.control.master import Master
from proxy.control.serving import Serving
from proxy.errors import ProxydError
from proxy.observe.logs import ErrorLog, Level, configure

log = logging.getLogger("proxyd.control")


class Document(TypedDict):
    """What the master says; control_program.py has the meaning of each."""

    config: str
    config_text: str
    listeners: list[int]
    master: int
    run_folder: str
    token: str
    log: str
    level: Level


async def run(document: Document, error_log: ErrorLog) -> int:
    """Answer until told to stop; return the exit code."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, reopen, error_log)
    loop.add_reader(sys.stdin.fileno(), life_line, stopping)
    config = parse(document["config_text"], Path(document["config"]))
    master = await Master.connected(socket.socket(fileno=document["master"]))
    guard = Guard(config, document["token"])
    serving = Serving(application(config, Path(document["run_folder"]), master, guard))
    await serving.begin([socket.socket(fileno=number) for number in document["listeners"]])
    await stopping.wait()
    await serving.end()
    master.close()
    return 0


def life_line(stopping: asyncio.Event) -> None:
    """Read from the master, who says nothing more; the end is the end."""
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stopping.set()


def reopen(error_log: ErrorLog) -> None:
    """Go on in a new log file."""
    try:
        error_log.reopen()
    except OSError as error:
        log.warning("the error log cannot be opened again, the old one goes on: %s", error)


def main() -> int:
    """Read the document from standard input and answer."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 65536)
        if not piece:
            return 1
        line += piece
    document: Document = json.loads(line)
    try:
        error_log = configure(document["log"], "control", document["level"])
    except OSError as error:
        print(f"proxyd: the log cannot be opened: {error}", file=sys.stderr)  # noqa: T201
        return 1
    try:
        with suppress(KeyboardInterrupt):
            return asyncio.run(run(document, error_log))
    except ProxydError as error:
        log.error("%s", error)  # noqa: TRY400 - its traceback says nothing to a person
    except Exception:  # the master starts another one
        log.exception("the control process failed")
    return 1
