"""Who workers and applications are, when the master was started as root."""

import ctypes
import grp
import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.errors import StartError

# As systemd's UMask=: whatever root's own is, others may not write what children make.
UMASK = 0o022
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A user that processes become: ids for the kernel, name and home for their environment."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    def process_options(self) -> dict[str, Any]:
        """Return the arguments of `subprocess` that make a child this user and nobody else."""
        return {
            "user": self.uid,
            "group": self.gid,
            "extra_groups": list(self.groups),
            "umask": UMASK,
        }

    def environment(self) -> dict[str, str]:
        """Return what a login would have set; a child must not look for root's files."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def runtime_identity(
    user: str | None, group: str | None, table: str = "[server]"
) -> Identity | None:
    """Return who children become, or None when they stay what the master is.

    `table` is where proxy.toml says so. Raises StartError when there is no such user or group, when
    `group` comes without `user`, and for root by any name.
    """
    if os.geteuid() != 0 or (user is None and group is None):
        return None
    if user is None:
        raise StartError(f'{table} group = "{group}" needs a user: set {table} user as well')
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise StartError(
            f'{table} user = "{user}": there is no such user; create it '
            f"(useradd --system {user}) or name another one"
        ) from None
    if entry.pw_uid == 0:
        raise StartError(
            f'{table} user = "{user}" is root, which none but the master should be; name another'
            f" one, such as www-data or nobody"
        )
    try:
        gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise StartError(f'{table} group = "{group}": there is no such group') from None
    return Identity(
        uid=entry.pw_uid,
        gid=gid,
        groups=tuple(sorted({gid, *os.getgrouplist(user, entry.pw_gid)})),
        name=user,
        home=entry.pw_dir,
    )


def refuse_root(identity: Identity | None) -> None:
    """Raise StartError when workers and applications would be root."""
    if identity is None and os.geteuid() == 0:
        raise StartError(
            "started as root, and proxy.toml does not say who workers and applications shall be:"
            ' write user = "www-data" into [server], and nothing but the master stays root (an'
            " application may have a `user` of its own in [app.NAME]); or start proxyd as that"
            " user. Where root is meant, as in a container that is thrown away: --allow-root, or"
            " PROXYD_ALLOW_ROOT=1"
        )


def forbid_new_privileges() -> None:
    """Let no program that is started from here on gain anything by setuid bits or capabilities.

    For this process and all of its descendants; becoming less (setuid from root) stays possible.
    Linux only; elsewhere nothing of the kind exists.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def make_folder(path: Path, mode: int, identity: Identity | None) -> None:
    """Make a folder with exactly this mode, owned by `identity` if there is one.

    An existing one gets the mode and owner. Works on the descriptor of the folder itself, so that
    a link put in its place by somebody is refused, not followed. Raises StartError.
    """
    try:
        path.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if identity is not None:
                os.fchown(descriptor, identity.uid, identity.gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartError(f"the folder {path} cannot be made ready: {error.strerror}") from None


def give_log(path: Path, identity: Identity | None) -> None:
    """Make a log file that workers can write although they may not create it; raises StartError.

    A link is refused: as root, it would give away the file that it points to.
    """
    if identity is None:
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o640)
        try:
            os.fchown(descriptor, identity.uid, identity.gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StartError(f"the log {path} cannot be made ready: {error.strerror}") from None
