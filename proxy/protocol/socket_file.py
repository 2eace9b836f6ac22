"""Whose a unix socket's file is: the master's, who made it, whatever serves on the socket."""

import sys
from typing import Any

# For asyncio's `create_unix_server`. From Python 3.13 on a server that closes removes the file, and
# with it the address of all others on the same socket: of the next generation, or the next master.
KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
