"""Opens files below a root, and nothing else.

The way down is taken one component at a time, each relative to the descriptor of the folder before
it and none through a symbolic link that the kernel follows: a folder that is swapped for a link
between two looks makes an open fail, it cannot lead it astray. Links are read here and their
targets walked by the same rule, so a link may point anywhere below the root and nowhere else.

Blocking: called in threads only.
"""

import errno
import os
import stat
from collections.abc import Sequence

from proxy.errors import ForbiddenError, HttpError, NotFoundError, OverloadedError

# Linux follows 40 links in one look-up (MAXSYMLINKS), macOS 32.
MAX_LINKS = 40

# O_PATH asks for the right to pass through a folder, not for the right to list it.
FOLDER_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)

# O_NONBLOCK: a FIFO without a writer must not hold the thread. It is then refused by its type.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# What O_NOFOLLOW and O_DIRECTORY say about a link: Linux and macOS, FreeBSD, a link as a folder.
MAYBE_LINK = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR}
ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
ABSENT |= {errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP}  # sockets and devices without a driver
FORBIDDEN = {errno.EACCES, errno.EPERM}
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class OpenFile:
    """A regular file or a folder below the root, open for reading, with its status when opened."""

    __slots__ = ("descriptor", "status")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.status = os.fstat(descriptor)

    @property
    def is_folder(self) -> bool:
        """Say whether this is a folder; else it is a regular file."""
        return stat.S_ISDIR(self.status.st_mode)

    def unchanged(self) -> bool:
        """Say whether the content is still what it was when the file was opened."""
        now = os.fstat(self.descriptor)
        return (now.st_size, now.st_mtime_ns) == (self.status.st_size, self.status.st_mtime_ns)

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        # The result of a thread is dropped when its waiter was cancelled meanwhile.
        self.close()


def open_below(root: str, segments: Sequence[bytes]) -> OpenFile:
    """Open the regular file or the folder that `segments` name below `root`.

    `root` is trusted and may itself be or contain links. Raises NotFoundError for what is not
    there, leaves the root or is neither file nor folder, ForbiddenError for what the worker's user
    may not read, OverloadedError when descriptors have run out.
    """
    walk = Walk(root, segments)
    try:
        return walk.finish()
    except OSError as error:
        raise _as_http_error(error, root, segments) from error
    finally:
        walk.close()


class Walk:
    """The folders from the root down to where we are, each held open, and what is still ahead."""

    def __init__(self, root: str, segments: Sequence[bytes]) -> None:
        self.root = root
        self.ahead = [segment for segment in reversed(segments) if segment]
        self.links = 0
        self.folders: list[int] = []

    def finish(self) -> OpenFile:
        """Walk to the end."""
        flags = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
        self.folders.append(os.open(self.root, flags))
        while self.ahead:
            name = self.ahead.pop()
            if name == b".":
                continue
            if name == b"..":
                self.go_up()
                continue
            try:
                if not self.ahead:
                    return self.open_last(name)
                self.folders.append(os.open(name, FOLDER_FLAGS, dir_fd=self.folders[-1]))
            except OSError as error:
                if error.errno not in MAYBE_LINK:
                    raise
                self.follow(name, error)
        return self.open_last(b".")

    def open_last(self, name: bytes) -> OpenFile:
        """Open what stands at the end of the way, if it is a file or a folder."""
        found = OpenFile(os.open(name, FILE_FLAGS, dir_fd=self.folders[-1]))
        if stat.S_ISREG(found.status.st_mode) or found.is_folder:
            return found
        found.close()
        raise NotFoundError("it is neither a file nor a folder (a FIFO or a device)")

    def go_up(self) -> None:
        """Take the `..` of a link's target."""
        if len(self.folders) == 1:
            raise NotFoundError("a symbolic link leaves the root")
        os.close(self.folders.pop())

    def follow(self, name: bytes, refusal: OSError) -> None:
        """Put the target of the link `name` in front of what is ahead."""
        try:
            target = os.readlink(name, dir_fd=self.folders[-1])
        except OSError as error:
            if error.errno == errno.EINVAL:  # no link after all: a file where a folder should be
                raise refusal from None
            raise
        self.links += 1
        if self.links > MAX_LINKS:
            raise NotFoundError(f"more than {MAX_LINKS} symbolic links on the way")
        if target.startswith(b"/"):
            target = self.below_root(target)
            while len(self.folders) > 1:
                os.close(self.folders.pop())
        self.ahead.extend(part for part in reversed(target.split(b"/")) if part)

    def below_root(self, target: bytes) -> bytes:
        """Make an absolute target relative to the root, by whichever name it knows the root.

        What is left is walked below the root's descriptor like everything else, so nothing
        depends on these names being true a moment later.
        """
        for known in (os.path.abspath(self.root), os.path.realpath(self.root)):
            prefix = os.fsencode(known).rstrip(b"/")
            if target == prefix or target.startswith(prefix + b"/"):
                return target[len(prefix) + 1 :]
        raise NotFoundError("a symbolic link leaves the root")

    def close(self) -> None:
        """Close the folders; the file that was found stays open."""
        while self.folders:
            os.close(self.folders.pop())


def _as_http_error(error: OSError, root: str, segments: Sequence[bytes]) -> HttpError:
    """Say what a refusal of the system means for the client, with the path for the log."""
    path = os.path.join(root, *(os.fsdecode(segment) for segment in segments))
    reason = f"{path}: {error.strerror}"
    if error.errno in ABSENT:
        return NotFoundError(reason)
    if error.errno in FORBIDDEN:
        return ForbiddenError(f"{reason}; proxyd's user needs r on the file, x on its folders")
    if error.errno in EXHAUSTED:
        return OverloadedError(reason, ((b"Retry-After", b"1"),))
    return HttpError(reason)
