"""What the disk holds under a path, on real files."""

import os
from pathlib import Path

import pytest

from proxy.errors import FileChangedError, NotFoundError
from proxy.files import disk
from proxy.files.disk import Listing, LocatedFile, NeedsSlash, locate, read_whole, segments_of
from proxy.files.options import CatalogOptions
from proxy.files.safe_open import open_below

DEFAULTS = CatalogOptions()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text("docs")
    (tmp_path / "empty").mkdir()
    (tmp_path / "app.js").write_text("app")
    return tmp_path


def found(root: Path, path: bytes, options: CatalogOptions = DEFAULTS) -> LocatedFile:
    located = locate(str(root), path, options)
    assert isinstance(located, LocatedFile)
    located.close()
    return located


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        (b"", ()),
        (b"a", (b"a",)),
        (b"a/b.txt", (b"a", b"b.txt")),
        (b"a/b/", (b"a", b"b")),
        (b"caf%C3%A9", ("café".encode(),)),
        (b"%FF", (b"\xff",)),
        (b"a%20b%3Fc", (b"a b?c",)),
        (b"%252e%252e", (b"%2e%2e",)),  # decoded once
        (b".well-known/acme", (b".well-known", b"acme")),
        (b"a/.well-known", (b"a", b".well-known")),
        (b"a..b", (b"a..b",)),
    ],
)
def test_a_path_is_decoded_into_names(path: bytes, segments: tuple[bytes, ...]) -> None:
    assert segments_of(path, dotfiles=False) == segments


@pytest.mark.parametrize(
    "path",
    [
        b"..",
        b"a/../b",
        b"a/..",
        b"%2e%2e/b",
        b".%2E/b",
        b"./a",
        b"a//b",
        b"/etc/passwd",
        b"//host/x",
        b"%2Fetc%2Fpasswd",
        b"a%2fb",
        b"..%2f..%2fetc%2fpasswd",
        b"a%00.txt",
        b"a\0b",
        b".git/config",
        b".env",
        b"a/.htaccess",
        b"%2Eenv",
        b".well-known/.secret",
        b".well-knownx",
    ],
)
def test_what_must_not_be_a_name_is_not_found(path: bytes) -> None:
    with pytest.raises(NotFoundError):
        segments_of(path, dotfiles=False)


@pytest.mark.parametrize("path", [b"..", b"%2e%2e/x", b".", b"a/../b", b"a//b"])
def test_allowing_dotfiles_allows_no_dot_segments(path: bytes) -> None:
    with pytest.raises(NotFoundError):
        segments_of(path, dotfiles=True)


def test_dotfiles_can_be_allowed() -> None:
    assert segments_of(b".git/config", dotfiles=True) == (b".git", b"config")


def test_a_file_is_found(root: Path) -> None:
    assert found(root, b"app.js").segments == (b"app.js",)


@pytest.mark.parametrize("path", [b"nothing", b"app.js/", b"app.js/x", b"empty", b"empty/", b""])
def test_what_is_not_there_is_not_found(root: Path, path: bytes) -> None:
    with pytest.raises(NotFoundError):
        locate(str(root), path, DEFAULTS)


def test_a_folder_is_answered_with_its_index(root: Path) -> None:
    assert found(root, b"docs/").segments == (b"docs", b"index.html")


def test_indexes_are_tried_in_order_and_folders_are_none(root: Path) -> None:
    (root / "docs" / "first").mkdir()
    options = CatalogOptions(index=("first", "second", "index.html"))
    assert found(root, b"docs/", options).segments == (b"docs", b"index.html")
    (root / "docs" / "second").write_text("second")
    assert found(root, b"docs/", options).segments == (b"docs", b"second")


def test_a_folder_without_its_slash_is_told_so(root: Path) -> None:
    assert locate(str(root), b"docs", DEFAULTS) == NeedsSlash()
    assert locate(str(root), b"empty", CatalogOptions(listing=True)) == NeedsSlash()


def test_siblings_are_found_by_their_suffix(root: Path) -> None:
    for suffix in ("br", "zst", "gz"):
        (root / f"app.js.{suffix}").write_text(suffix)
    located = found(root, b"app.js")
    assert list(located.files) == [b"identity", b"br", b"zstd", b"gzip"]
    assert located.path_of(b"zstd") == (b"app.js.zst",)
    assert list(found(root, b"app.js", CatalogOptions(precompressed=False)).files) == [b"identity"]


def test_a_sibling_older_than_its_original_is_left_out(root: Path) -> None:
    os.utime(root / "app.js", ns=(10**18 + 900, 10**18 + 900))
    (root / "app.js.br").write_text("same second")
    os.utime(root / "app.js.br", ns=(10**18, 10**18))
    (root / "app.js.gz").write_text("a second older")
    os.utime(root / "app.js.gz", ns=(10**18 - 1, 10**18 - 1))
    (root / "app.js.zst").mkdir()
    assert list(found(root, b"app.js").files) == [b"identity", b"br"]


def test_a_sibling_does_not_leave_the_root_either(root: Path) -> None:
    outside = root.parent / f"{root.name}-outside.br"
    outside.write_text("secret")
    (root / "app.js.br").symlink_to(outside)
    assert list(found(root, b"app.js").files) == [b"identity"]


def test_a_listing_has_folders_first_and_hides_what_is_not_served(root: Path) -> None:
    (root / "Beta.txt").write_text("12345")
    (root / "alpha.txt").write_text("1")
    (root / ".hidden").write_text("x")
    (root / ".well-known").mkdir()
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo")
    listing = locate(str(root), b"", CatalogOptions(listing=True))
    assert isinstance(listing, Listing)
    assert listing.is_complete
    assert [entry.name for entry in listing.entries] == [
        b".well-known",
        b"docs",
        b"empty",
        b"alpha.txt",
        b"app.js",
        b"Beta.txt",
        b"link",
    ]
    sizes = {entry.name: entry.size_bytes for entry in listing.entries}
    assert sizes[b"Beta.txt"] == 5
    assert sizes[b"link"] is None
    shown = locate(str(root), b"", CatalogOptions(listing=True, dotfiles=True))
    assert isinstance(shown, Listing)
    assert b".hidden" in {entry.name for entry in shown.entries}


def test_a_listing_of_a_file_is_not_found(root: Path) -> None:
    with pytest.raises(NotFoundError):
        locate(str(root), b"app.js/", CatalogOptions(listing=True))


def test_a_long_listing_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_ENTRIES", 2)
    listing = locate(str(root), b"", CatalogOptions(listing=True))
    assert isinstance(listing, Listing)
    assert len(listing.entries) == 2
    assert not listing.is_complete


def test_an_entry_that_goes_while_it_is_listed_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_args: object, **_options: object) -> os.stat_result:
        raise FileNotFoundError

    monkeypatch.setattr(os, "stat", gone)
    listing = locate(str(root), b"", CatalogOptions(listing=True))
    assert listing == Listing((), is_complete=True)


def test_a_file_is_read_in_pieces_when_the_system_gives_pieces(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 2), offset))
    file = open_below(str(root), [b"app.js"])
    assert read_whole(file) == b"app"
    file.close()


def test_a_file_that_is_written_to_is_not_read(root: Path) -> None:
    file = open_below(str(root), [b"app.js"])
    (root / "app.js").write_text("a longer one")
    with pytest.raises(FileChangedError):
        read_whole(file)
    (root / "app.js").write_text("")
    with pytest.raises(FileChangedError):
        read_whole(file)
    file.close()
