"""Whether a user may reach a path, found out component by component by trying it as that user."""

import grp
import os
import pickle
import pwd
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from proxy.errors import StartError

Use = Literal["enter", "read", "list", "write", "append", "connect", "execute"]
Kind = Literal["missing", "closed", "not a folder", "not a file", "not a socket", "broken"]

Result = TypeVar("Result")

# What each use needs of the last component, and how chmod calls it.
MODES: dict[Use, tuple[int, str]] = {
    "enter": (os.X_OK, "x"),
    "read": (os.R_OK, "r"),
    "list": (os.R_OK | os.X_OK, "rx"),
    "write": (os.W_OK | os.X_OK, "wx"),
    "append": (os.W_OK, "w"),
    "connect": (os.W_OK, "w"),
    "execute": (os.X_OK, "x"),
}
FOLDER_USES = ("enter", "list", "write")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom workers and apps run as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """The first component of a path that is in the way.

    `description` is its mode and owner as ls writes them; `permission` is what chmod would have to
    add, such as "o+x". Both are empty when there is nothing.
    """

    path: Path
    kind: Kind
    description: str = ""
    permission: str = ""


def as_user(identity: Identity | None, job: Callable[[], Result]) -> Result:
    """Return what `job` returns when this user does it; None is the present one.

    Only root can become another user. It happens in a child, which has no way back.
    """
    if identity is None:
        return job()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage is not measured in the child
        do_as_child(identity, job, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise StartError(f'cannot become the user "{identity.name}"; is this really root?')
    result: Result = pickle.loads(answer)  # noqa: S301 - our own child wrote it
    return result


def do_as_child(
    identity: Identity, job: Callable[[], Result], writer: int
) -> None:  # pragma: no cover - coverage is not measured in the child
    """Become the user for good, do the job, write its pickled result, and end."""
    try:
        os.initgroups(identity.name, identity.gid)
        os.setgid(identity.gid)
        os.setuid(identity.uid)
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(job(), pipe)
    finally:
        os._exit(0)


def obstacle(path: Path, use: Use) -> Obstacle | None:
    """Return what keeps the present user from using `path` so, or None.

    "write" also takes a folder, and "append" a file, that is not there and can be made.
    """
    real = Path(os.path.realpath(path))
    for folder in reversed(real.parents):
        if found := entering(folder):
            if found.kind == "missing" and use == "write":
                return lacking(folder.parent, "write")
            return found
    try:
        mode = real.stat().st_mode
    except FileNotFoundError:
        if use in ("write", "append"):
            return lacking(real.parent, "write")
        return Obstacle(path=real, kind="missing")
    except OSError:
        return Obstacle(path=real, kind="broken")
    if use in FOLDER_USES and not stat.S_ISDIR(mode):
        return Obstacle(path=real, kind="not a folder")
    if use == "connect" and not stat.S_ISSOCK(mode):
        return Obstacle(path=real, kind="not a socket")
    if use not in (*FOLDER_USES, "connect") and stat.S_ISDIR(mode):
        return Obstacle(path=real, kind="not a file")
    return lacking(real, use)


def entering(folder: Path) -> Obstacle | None:
    """Return why `folder`, whose parents can be entered, cannot be."""
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        return Obstacle(path=folder, kind="missing")
    except OSError:
        return Obstacle(path=folder, kind="broken")
    if not stat.S_ISDIR(mode):
        return Obstacle(path=folder, kind="not a folder")
    return lacking(folder, "enter")


def lacking(path: Path, use: Use) -> Obstacle | None:
    """Return the permission that `path`, which exists, does not give the present user."""
    mode, letters = MODES[use]
    if os.access(path, mode):
        return None
    status = path.stat()
    if status.st_uid == os.geteuid():
        whom = "u"
    elif status.st_gid in {os.getegid(), *os.getgroups()}:
        whom = "g"
    else:
        whom = "o"
    return Obstacle(
        path=path,
        kind="closed",
        description=f"{stat.filemode(status.st_mode)} {user_name(status.st_uid)} "
        f"{group_name(status.st_gid)}",
        permission=f"{whom}+{letters}",
    )


def user_name(uid: int) -> str:
    """Return the name of a user, or the number when there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group, or the number when there is none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
