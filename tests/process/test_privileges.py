"""Who children become: looked up by the master, held by the kernel."""

import grp
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from proxy.errors import StartError
from proxy.process.privileges import Identity, give_log, make_folder, refuse_root, runtime_identity

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def pretend_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_without_root_nobody_becomes_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert runtime_identity("nobody", None) is None


@pytest.mark.usefixtures("pretend_root")
def test_without_a_user_children_stay_what_the_master_is() -> None:
    assert runtime_identity(None, None) is None


@pytest.mark.usefixtures("pretend_root")
def test_a_user_comes_with_its_groups_name_and_home() -> None:
    entry = pwd.getpwnam("nobody")
    identity = runtime_identity("nobody", None)
    assert identity is not None
    assert (identity.uid, identity.gid) == (entry.pw_uid, entry.pw_gid)
    assert entry.pw_gid in identity.groups
    assert identity.environment() == {
        "HOME": entry.pw_dir,
        "USER": "nobody",
        "LOGNAME": "nobody",
    }


@pytest.mark.usefixtures("pretend_root")
def test_a_group_takes_the_place_of_the_users_own() -> None:
    group = grp.getgrall()[0]
    identity = runtime_identity("nobody", group.gr_name)
    assert identity is not None
    assert identity.gid == group.gr_gid
    assert group.gr_gid in identity.groups


@pytest.mark.usefixtures("pretend_root")
@pytest.mark.parametrize(
    ("user", "group", "told"),
    [
        ("no-such-user", None, "there is no such user"),
        ("nobody", "no-such-group", "there is no such group"),
        (None, "nogroup", "needs a user"),
        ("root", None, "is root, which none but the master should be"),
    ],
)
def test_what_does_not_exist_is_told(user: str | None, group: str | None, told: str) -> None:
    with pytest.raises(StartError, match=told):
        runtime_identity(user, group)


@pytest.mark.usefixtures("pretend_root")
def test_root_is_refused_where_nobody_is_named() -> None:
    with pytest.raises(StartError, match='write user = "www-data" into'):
        refuse_root(None)
    refuse_root(runtime_identity("nobody", None))


@as_root
def test_a_child_is_that_user_and_has_no_group_of_roots() -> None:
    identity = runtime_identity("nobody", None)
    assert identity is not None
    shown = subprocess.run(
        ["id"], capture_output=True, text=True, check=True, **identity.process_options()
    ).stdout
    assert f"uid={identity.uid}(nobody) gid={identity.gid}" in shown
    assert "(root)" not in shown


@as_root
def test_folders_and_logs_are_given_to_the_user(tmp_path: Path) -> None:
    identity = Identity(uid=65534, gid=65534, groups=(), name="nobody", home="/")
    make_folder(tmp_path / "folder", 0o700, identity)
    give_log(tmp_path / "log", identity)
    for path, mode in ((tmp_path / "folder", 0o700), (tmp_path / "log", 0o640)):
        assert path.stat().st_uid == 65534
        assert path.stat().st_mode & 0o777 == mode


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "passwords")
    identity = Identity(uid=os.getuid(), gid=os.getgid(), groups=(), name="me", home="/")
    with pytest.raises(StartError, match="cannot be made ready"):
        give_log(tmp_path / "log", identity)
    assert not (tmp_path / "passwords").exists()


def test_without_a_user_logs_are_left_to_those_who_write_them(tmp_path: Path) -> None:
    give_log(tmp_path / "log", None)
    assert not (tmp_path / "log").exists()
