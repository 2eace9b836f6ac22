"""The state folder: its lock and pid file, and the private folders of applications and workers.

state_dir/
  proxyd.pid     the master's pid, locked as long as it lives
  run/apps/      the applications' sockets, 0700, owned by the runtime user
  tmp/           spooled bodies, 0700, owned by the runtime user
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from proxy.config.values import UNIX_PATH_BYTES
from proxy.errors import StartError
from proxy.process.privileges import Identity, make_folder

PID_FILE = "proxyd.pid"
# Room for "/NAME-9999.sock" below the sockets' folder; names have up to 63 characters.
_SOCKET_NAME_BYTES = 1 + 63 + 1 + 4 + 5


class State:
    """The state folder of one running master; `open` takes the lock, `close` tidies up."""

    def __init__(self, folder: Path, identity: Identity | None) -> None:
        self.folder = folder
        self.sockets_folder = folder / "run" / "apps"
        self._identity = identity
        self._pid_file = folder / PID_FILE
        self._lock = -1
        self._borrowed: Path | None = None

    def open(self) -> None:
        """Lock the folder and make what is in it; raises StartError when another proxyd has it."""
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock = _lock(self._pid_file)
        except OSError as error:
            raise StartError(
                f"[server] state_dir {self.folder} cannot be used: {error.strerror}; "
                f"choose a folder that this user may write"
            ) from None
        make_folder(self.folder / "run", 0o755, None)
        make_folder(self.folder / "tmp", 0o700, self._identity)
        if len(os.fsencode(self.sockets_folder)) + _SOCKET_NAME_BYTES <= UNIX_PATH_BYTES:
            make_folder(self.sockets_folder, 0o700, self._identity)
        else:
            # Deeper than a socket's path can be (sun_path); as short as the system's temp folder.
            self._borrowed = self.sockets_folder = Path(tempfile.mkdtemp(prefix="proxyd-"))
            make_folder(self.sockets_folder, 0o700, self._identity)
        for leftover in self.sockets_folder.glob("*.sock"):
            leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the pid file and let the lock go; nothing is left that a next start would miss."""
        if self._borrowed is not None:
            shutil.rmtree(self._borrowed, ignore_errors=True)
        if self._lock >= 0:
            with suppress(OSError):
                self._pid_file.unlink()
            os.close(self._lock)
            self._lock = -1


def _lock(path: Path) -> int:
    """Return the descriptor of the pid file, locked and written; raises StartError, OSError."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StartError(
                f"another proxyd (pid {pid}) runs with the state_dir {path.parent}; "
                f"end it with `kill {pid}`, or give this one a [server] state_dir of its own"
            ) from None
        # The former owner may have removed the file between our open and our lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"%d\n" % os.getpid())
                return descriptor
        os.close(descriptor)
