"""The state folder: its lock and pid file, and the private folders of applications and workers.

state_dir/
  proxyd.pid     the master's pid, locked as long as one lives
  master.sock    for commands to the master (control_socket.py), 0600
  control.sock   for operators and monitors ([control] without an address), 0600
  run/N/         the sockets of generation N: of workers and applications, 0700, the runtime user's
  run/N.M/       those of an application with a user of its own: its, 0710 for the workers' group
  tmp/           spooled bodies, 0700, owned by the runtime user
  metrics/       the numbers of the workers (observe/metrics_file.py), the same
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from proxy.config.control import SOCKET
from proxy.config.values import UNIX_PATH_BYTES
from proxy.errors import StartError
from proxy.observe import metrics_file
from proxy.process.privileges import Identity, make_folder

PID_FILE = "proxyd.pid"
METRICS = "metrics"
# Room for "/9999.99/NAME-9999.9999" below the folder; names have up to 63 characters.
_SOCKET_NAME_BYTES = 5 + 3 + 1 + 63 + 1 + 4 + 5
_GENERATIONS = 10_000


class State:
    """The state folder of one running master; `open` takes the lock, `close` tidies up.

    During an upgrade two masters hold the lock; only the `owner` writes and removes the pid file.
    """

    def __init__(self, folder: Path, identity: Identity | None) -> None:
        self.folder = folder
        self.run_folder = folder / "run"
        self._identity = identity
        self._pid_file = folder / PID_FILE
        self.lock = -1
        self.owner = False
        self._borrowed: Path | None = None

    def open(self, lock: int | None = None) -> None:
        """Lock the folder and make what is in it; raises StartError when another proxyd has it.

        With a predecessor's `lock`, the folder is still the predecessor's until `take_over`.
        """
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if lock is None:
                self.lock = _lock(self._pid_file)
                self.owner = True
            else:
                self.lock = lock
        except OSError as error:
            raise StartError(
                f"[server] state_dir {self.folder} cannot be used: {error.strerror}; "
                f"choose a folder that this user may write"
            ) from None
        make_folder(self.folder / "tmp", 0o700, self._identity)
        make_folder(self.folder / METRICS, 0o700, self._identity)
        if len(os.fsencode(self.run_folder)) + _SOCKET_NAME_BYTES > UNIX_PATH_BYTES:
            # Deeper than a socket's path can be (sun_path); as short as the system's temp folder.
            self._borrowed = self.run_folder = Path(tempfile.mkdtemp(prefix="proxyd-"))
        make_folder(self.run_folder, 0o755, None)
        if self.owner:
            for leftover in self.run_folder.glob("[0-9]*"):
                shutil.rmtree(leftover, ignore_errors=True)
            metrics_file.clean(self.folder / METRICS)
            # Its process may still be about to end, after a master that was killed.
            (self.folder / SOCKET).unlink(missing_ok=True)

    def take_over(self) -> None:
        """Be the one whose pid the file has."""
        _write_pid(self.lock)
        self.owner = True

    def of_generation(self, number: int) -> Path:
        """Return the folder for the sockets of one generation, which makes it."""
        return self.run_folder / str(number % _GENERATIONS)

    def close(self) -> None:
        """Remove the pid file and let the lock go; nothing is left that a next start would miss."""
        if self._borrowed is not None:
            shutil.rmtree(self._borrowed, ignore_errors=True)
        if self.lock >= 0:
            if self.owner:
                metrics_file.clean(self.folder / METRICS)
                with suppress(OSError):
                    self._pid_file.unlink()
            os.close(self.lock)
            self.lock = -1


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
                _write_pid(descriptor)
                return descriptor
        os.close(descriptor)


def _write_pid(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
