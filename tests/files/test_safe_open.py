"""Nothing outside the root is ever opened: real files, real links, real races."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from proxy.errors import ForbiddenError, HttpError, NotFoundError, OverloadedError
from proxy.files.safe_open import MAX_LINKS, open_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("secret")
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "top.txt").write_text("top")
    (root / "a" / "b" / "deep.txt").write_text("deep")
    return root


def read(root: Path, path: str) -> str:
    found = open_below(str(root), [part.encode() for part in path.split("/")])
    try:
        return os.read(found.descriptor, 100).decode()
    finally:
        found.close()


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize(("path", "text"), [("top.txt", "top"), ("a/b/deep.txt", "deep")])
def test_a_file_below_the_root_is_opened(root: Path, path: str, text: str) -> None:
    assert read(root, path) == text


@pytest.mark.parametrize("path", ["", "a", "a/b", "a/b/"])
def test_a_folder_is_opened_as_one(root: Path, path: str) -> None:
    found = open_below(str(root), path.encode().split(b"/"))
    assert found.is_folder
    found.close()


@pytest.mark.parametrize(
    "path",
    ["nothing", "a/nothing", "nothing/at/all", "top.txt/x", "a/b/deep.txt/x/y", "x" * 300],
)
def test_what_is_not_there_is_not_found(root: Path, path: str) -> None:
    with pytest.raises(NotFoundError):
        read(root, path)


@pytest.mark.parametrize(
    ("link", "target", "path", "text"),
    [
        ("link.txt", "top.txt", "link.txt", "top"),
        ("link", "a/b", "link/deep.txt", "deep"),
        ("a/link", "../top.txt", "a/link", "top"),
        ("a/link", "./../a/./b//deep.txt", "a/link", "deep"),
        ("link", "{root}/a/b/deep.txt", "link", "deep"),
        ("a/b/link", "{root}", "a/b/link/top.txt", "top"),
        ("..data", "a", "..data/b/deep.txt", "deep"),  # as Kubernetes mounts its ConfigMaps
    ],
)
def test_a_link_that_stays_below_the_root_is_followed(
    root: Path, link: str, target: str, path: str, text: str
) -> None:
    (root / link).symlink_to(target.format(root=root))
    assert read(root, path) == text


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link", "../secret/key.txt", "link"),
        ("link", "../secret", "link/key.txt"),
        ("a/link", "../../secret/key.txt", "a/link"),
        ("a/link", "b/../../../secret/key.txt", "a/link"),
        ("link", "{root}/../secret/key.txt", "link"),
        ("link", "{root}-else/key.txt", "link"),
        ("link", "/etc/passwd", "link"),
        ("link", "/", "link/etc/passwd"),
        ("link", "..", "link/root/top.txt"),
        ("link", "nothing", "link"),
        ("loop", "loop", "loop"),
        ("loop", "loop", "loop/x"),
    ],
)
def test_a_link_that_leaves_the_root_is_not_found(
    root: Path, link: str, target: str, path: str
) -> None:
    (root.parent / "root-else").mkdir()
    (root.parent / "root-else" / "key.txt").write_text("secret")
    (root / link).symlink_to(target.format(root=root))
    with pytest.raises(NotFoundError):
        read(root, path)


def test_the_way_down_may_not_hold_dot_dot(root: Path) -> None:
    with pytest.raises(NotFoundError):
        read(root, "../secret/key.txt")


def test_a_chain_of_links_has_an_end(root: Path) -> None:
    (root / "link0").symlink_to("top.txt")
    for number in range(MAX_LINKS):
        (root / f"link{number + 1}").symlink_to(f"link{number}")
    assert read(root, f"link{MAX_LINKS - 1}") == "top"
    with pytest.raises(NotFoundError, match="symbolic links"):
        read(root, f"link{MAX_LINKS}")


def test_the_root_itself_may_be_a_link_and_may_be_swapped(root: Path) -> None:
    current = root.parent / "current"
    current.symlink_to("root")
    (root / "absolute").symlink_to(current / "top.txt")
    assert read(current, "top.txt") == "top"
    assert read(current, "absolute") == "top"
    (root / "by-real-name").symlink_to(root / "top.txt")
    assert read(current, "by-real-name") == "top"
    current.unlink()
    current.symlink_to("secret")
    assert read(current, "key.txt") == "secret"


def test_a_fifo_is_refused_and_holds_nobody(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(NotFoundError, match="FIFO"):
        read(root, "fifo")


def test_a_socket_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # socket paths are short
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind("s")
        with pytest.raises(NotFoundError):
            read(root, "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_forbidden(root: Path) -> None:
    (root / "top.txt").chmod(0)
    with pytest.raises(ForbiddenError, match="needs r on the file"):
        read(root, "top.txt")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (13, ForbiddenError),
        (24, OverloadedError),
        (5, HttpError),
    ],
)
def test_what_the_system_refuses_becomes_a_status(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[HttpError]
) -> None:
    def refuse(*_args: object, **_options: object) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(expected) as caught:
        open_below(str(root), [b"top.txt"])
    assert type(caught.value) is expected


def test_a_link_that_vanishes_under_our_eyes_is_not_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "link").symlink_to("top.txt")

    def vanish(*_args: object, **_options: object) -> bytes:
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr(os, "readlink", vanish)
    with pytest.raises(NotFoundError):
        read(root, "link")


def test_no_descriptor_is_left_open(root: Path) -> None:
    (root / "out").symlink_to("../secret")
    os.mkfifo(root / "fifo")
    before = open_descriptors()
    for path in ["a/b/deep.txt", "out/key.txt", "fifo", "a/b/none", "top.txt/x"]:
        with contextlib.suppress(NotFoundError):
            read(root, path)
    open_below(str(root), [b"top.txt"])  # dropped without a close
    assert open_descriptors() == before


def test_a_folder_swapped_for_a_link_never_lets_anybody_out(root: Path) -> None:
    """`door` is a folder, then a link to what is outside."""
    door, inside, outside = root / "door", root / "inside", root / "outside"
    inside.mkdir()
    (inside / "key.txt").write_text("public")
    outside.symlink_to("../secret")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one in (inside, outside):
                with contextlib.suppress(OSError):
                    one.rename(door)
                    door.rename(one)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen: dict[str, int] = {}
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                text = read(root, "door/key.txt")
            except NotFoundError as error:
                text = "leaves" if "leaves the root" in str(error) else "not found"
            seen[text] = seen.get(text, 0) + 1
            if {"public", "leaves"} <= seen.keys() and sum(seen.values()) > 2000:
                break
    finally:
        stop.set()
        swapper.join()
    assert "secret" not in seen
    assert seen.get("public"), "the race was never won by the folder"
    assert seen.get("leaves"), "the race was never won by the link"
