"""The page that shows a folder."""

from proxy.files.disk import Entry, Listing
from proxy.files.listing import render_listing

NOON = 1_750_000_000.0


def page(*entries: Entry, path: bytes = b"/files/", complete: bool = True) -> str:
    return render_listing(path, Listing(entries, complete), has_parent=True).decode()


def test_entries_have_links_sizes_and_times() -> None:
    shown = page(Entry(b"sub", True, None, NOON), Entry(b"a b.txt", False, 1536, NOON))
    assert '<a href="sub/">sub/</a>' in shown
    assert '<a href="a%20b.txt">a b.txt</a>' in shown
    assert "1.5 KiB" in shown
    assert "2025-06-15 15:06" in shown


def test_names_cannot_break_out_of_the_page() -> None:
    evil = b"<script>alert(1)</script>\"'&.txt"
    shown = page(Entry(evil, False, 1, NOON), path=b"/%3Cscript%3E%22/")
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_names_cannot_be_taken_for_schemes_hosts_or_parents() -> None:
    shown = page(Entry(b"javascript:alert(1)", False, 1, NOON), Entry(b"\\\\host", False, 1, NOON))
    assert 'href="javascript%3Aalert%281%29"' in shown
    assert 'href="%5C%5Chost"' in shown


def test_names_that_are_not_utf_8_can_be_followed() -> None:
    shown = page(Entry(b"caf\xe9", False, 1, NOON))
    assert 'href="caf%E9"' in shown
    assert "caf�" in shown


def test_what_is_unknown_stays_empty() -> None:
    shown = page(Entry(b"link", False, None, None), Entry(b"odd", False, 1, 1e30))
    assert '<a href="link">link</a></td><td></td><td></td>' in shown
    assert '<a href="odd">odd</a></td><td>1 B</td><td></td>' in shown


def test_an_empty_and_an_endless_folder_say_so() -> None:
    assert "Nothing here." in page()
    assert "there are more" in page(Entry(b"a", False, 1, NOON), complete=False)


def test_only_a_folder_below_another_has_a_way_up() -> None:
    assert 'href="../"' in page()
    assert b'href="../"' not in render_listing(b"/", Listing((), True), has_parent=False)


def test_sizes_are_for_people() -> None:
    shown = page(
        *(
            Entry(b"x", False, size, NOON)
            for size in (0, 1023, 10 * 1024, 3 * 1024**2, 2 * 1024**3, 5 * 1024**4)
        )
    )
    for size in ("0 B", "1023 B", "10 KiB", "3.0 MiB", "2.0 GiB", "5.0 TiB"):
        assert f"<td>{size}</td>" in shown
