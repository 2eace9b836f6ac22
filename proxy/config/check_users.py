"""Whom workers and applications will run as: the part of `proxyd check` that is about users."""

import grp
import os
import pwd
from collections.abc import Mapping

from proxy.config.access import Identity, user_name
from proxy.config.finding import Finding, error, warning
from proxy.config.load import nearest
from proxy.config.locate import KeyPath
from proxy.config.schema import Config

# By the name of an application, None for the workers; a value of None is the present user.
Identities = Mapping[str | None, Identity | None]


def runtime_identities(config: Config) -> tuple[Identities, list[Finding]]:
    """Return whom each will run as, and what is wrong with it."""
    server = config.server
    workers, findings = whom(("server",), server.user, server.group)
    identities: dict[str | None, Identity | None] = {None: workers}
    if os.geteuid() == 0 and server.user is None and server.group is None:
        text = "started as root without `user`, proxyd refuses to start, or needs --allow-root"
        fix = 'write user = "www-data" (or another one) in [server]'
        findings.append(warning(("server", "user"), text, fix))
    for name, app in config.app.items():
        own, found = whom(("app", name), app.user, app.group)
        identities[name] = own or workers
        findings += found
    return identities, findings


def whom(
    table: KeyPath, name: str | None, group: str | None
) -> tuple[Identity | None, list[Finding]]:
    """Return whom one table of proxy.toml means, None for nobody in particular."""
    key = (*table, "user")
    if os.geteuid() != 0:
        present = user_name(os.geteuid())
        if name in (None, present):
            return None, []
        text = f'`user` has no effect: not started as root, everything runs as "{present}"'
        return None, [warning(key, text, "start it as root, or take `user` out")]
    if name is None:
        if group is None:
            return None, []
        text = "`group` is without `user`, and root must not keep one of both"
        return None, [error((*table, "group"), text, "write `user` as well")]
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        text = f'there is no user "{name}" on this machine'
        fix = nearest(name, [entry.pw_name for entry in pwd.getpwall()])
        return None, [error(key, text, fix or f"useradd --system {name}")]
    if user.pw_uid == 0:
        text = f'"{name}" is root, which none but the master should be'
        return None, [error(key, text, "name another one, such as www-data or nobody")]
    gid = user.pw_gid
    if group is not None:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            text = f'there is no group "{group}" on this machine'
            fix = nearest(group, [entry.gr_name for entry in grp.getgrall()])
            return None, [error((*table, "group"), text, fix or f"groupadd --system {group}")]
    return Identity(name=name, uid=user.pw_uid, gid=gid), []
