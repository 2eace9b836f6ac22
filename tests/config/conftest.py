"""Folders that other users can reach, and a user without rights."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config.access import Identity


@pytest.fixture
def tree() -> Iterator[Path]:
    """Return a folder that everybody can reach; those of `tmp_path` are for one user alone."""
    folder = Path(tempfile.mkdtemp()).resolve()
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    for inner, names, _ in os.walk(folder):
        for name in names:
            if not Path(inner, name).is_symlink():
                Path(inner, name).chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def nobody() -> Identity | None:
    """Return a user without rights: the present one (None), unless that is root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Identity(name="nobody", uid=entry.pw_uid, gid=entry.pw_gid)
