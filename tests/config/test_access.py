"""Reaching paths: real folders, real modes, and as root a real change of user."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from proxy.config.access import (
    Identity,
    Use,
    as_user,
    group_name,
    obstacle,
    user_name,
)
from proxy.errors import StartError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


Found = Callable[[Path, Use], tuple[Path, str, str] | None]


@pytest.fixture
def found(nobody: Identity | None) -> Found:
    """Return a walk as the user without rights: where it ends, why, and what chmod would add."""

    def found(path: Path, use: Use) -> tuple[Path, str, str] | None:
        seen = as_user(nobody, partial(obstacle, path, use))
        return (seen.path, seen.kind, seen.permission) if seen else None

    return found


def kind(path: Path, use: Use) -> tuple[Path, str] | None:
    """Return what is in the way of the present user, where rights do not matter."""
    seen = obstacle(path, use)
    return (seen.path, seen.kind) if seen else None


def whose() -> str:
    """Return chmod's letter for the test's own files, seen by the user without rights."""
    return "o" if os.geteuid() == 0 else "u"


def test_a_path_that_can_be_reached_has_no_obstacle(tree: Path, found: Found) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("x")
    assert found(tree / "a" / "b", "list") is None
    assert found(tree / "a" / "b", "enter") is None
    assert found(tree / "a" / "b" / "file", "read") is None


def test_the_component_that_cannot_be_entered_is_named_and_not_what_is_below(
    tree: Path, found: Found
) -> None:
    (tree / "closed" / "open" / "deeper").mkdir(parents=True)
    (tree / "closed").chmod(0o000)
    expected = (tree / "closed", "closed", f"{whose()}+x")
    assert found(tree / "closed" / "open" / "deeper", "list") == expected


def test_the_description_is_the_one_of_ls(tree: Path, nobody: Identity | None) -> None:
    (tree / "closed").mkdir(mode=0o700)
    (tree / "closed").chmod(0o000)
    seen = as_user(nobody, partial(obstacle, tree / "closed" / "x", "read"))
    assert seen is not None
    owner = f"{user_name(os.geteuid())} {group_name((tree / 'closed').stat().st_gid)}"
    assert seen.description == f"d--------- {owner}"


@pytest.mark.parametrize(
    ("use", "mode", "letters"),
    [("enter", 0o666, "x"), ("list", 0o111, "rx"), ("write", 0o555, "wx")],
)
def test_a_folder_that_lacks_a_permission_is_told_which(
    tree: Path, found: Found, use: Use, mode: int, letters: str
) -> None:
    (tree / "folder").mkdir()
    (tree / "folder").chmod(mode)
    assert found(tree / "folder", use) == (tree / "folder", "closed", f"{whose()}+{letters}")


@pytest.mark.parametrize(
    ("use", "mode", "letters"),
    [("read", 0o333, "r"), ("append", 0o444, "w"), ("execute", 0o644, "x")],
)
def test_a_file_that_lacks_a_permission_is_told_which(
    tree: Path, found: Found, use: Use, mode: int, letters: str
) -> None:
    (tree / "file").write_text("x")
    (tree / "file").chmod(mode)
    assert found(tree / "file", use) == (tree / "file", "closed", f"{whose()}+{letters}")


def test_a_link_is_followed_to_the_component_that_is_closed(tree: Path, found: Found) -> None:
    (tree / "real" / "inner").mkdir(parents=True)
    (tree / "link").symlink_to(tree / "real" / "inner")
    (tree / "real").chmod(0o000)
    assert found(tree / "link", "list") == (tree / "real", "closed", f"{whose()}+x")


def test_a_link_to_itself_is_broken(tree: Path) -> None:
    (tree / "loop").symlink_to(tree / "loop")
    assert kind(tree / "loop", "list") == (tree / "loop", "broken")
    assert kind(tree / "loop" / "x", "list") == (tree / "loop", "broken")


def test_a_missing_component_is_the_first_that_is_missing(tree: Path) -> None:
    assert kind(tree / "no" / "such" / "file", "read") == (tree / "no", "missing")
    assert kind(tree / "file", "read") == (tree / "file", "missing")


def test_a_file_in_the_way_is_not_a_folder(tree: Path) -> None:
    (tree / "file").write_text("x")
    assert kind(tree / "file" / "x", "read") == (tree / "file", "not a folder")
    assert kind(tree / "file", "list") == (tree / "file", "not a folder")


def test_a_folder_is_not_a_file(tree: Path) -> None:
    assert kind(tree, "append") == (tree, "not a file")


def test_a_socket_must_be_one(tree: Path) -> None:
    (tree / "file").write_text("x")
    assert kind(tree / "file", "connect") == (tree / "file", "not a socket")


def test_a_socket_that_may_not_be_written_cannot_be_connected_to(tree: Path, found: Found) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "s"))
        (tree / "s").chmod(0o444)
        assert found(tree / "s", "connect") == (tree / "s", "closed", f"{whose()}+w")
        (tree / "s").chmod(0o666)
        assert found(tree / "s", "connect") is None


def test_what_can_be_made_need_not_be_there(tree: Path, found: Found) -> None:
    tree.chmod(0o777)
    assert found(tree / "new.log", "append") is None
    assert found(tree / "var" / "deeper", "write") is None


def test_what_cannot_be_made_names_the_folder_that_refuses(tree: Path, found: Found) -> None:
    tree.chmod(0o555)
    expected = (tree, "closed", f"{whose()}+wx")
    assert found(tree / "new.log", "append") == expected
    assert found(tree / "var", "write") == expected
    assert found(tree / "var" / "deeper", "write") == expected


@as_root
def test_a_file_of_the_user_s_group_lacks_the_group_s_permission(
    tree: Path, found: Found, nobody: Identity
) -> None:
    (tree / "file").write_text("x")
    os.chown(tree / "file", 0, nobody.gid)
    (tree / "file").chmod(0o600)
    assert found(tree / "file", "read") == (tree / "file", "closed", "g+r")


@as_root
def test_the_job_runs_as_the_other_user_and_this_process_stays_who_it_is(
    nobody: Identity,
) -> None:
    assert as_user(nobody, os.getuid) == nobody.uid
    assert as_user(nobody, os.getegid) == nobody.gid
    assert 0 not in as_user(nobody, os.getgroups)
    assert os.geteuid() == 0


def test_a_child_that_cannot_become_the_user_is_an_error() -> None:
    if os.geteuid() == 0:
        failing = Identity(name="nobody", uid=-2, gid=-2)  # setgid(2) refuses negative numbers
    else:
        failing = Identity(name="root", uid=0, gid=0)
    with pytest.raises(StartError, match="cannot become the user"):
        as_user(failing, os.getuid)


def test_a_user_or_group_without_a_name_is_a_number() -> None:
    assert user_name(0) == "root"
    assert user_name(3_999_999_999) == "3999999999"
    assert group_name(3_999_999_999) == "3999999999"
