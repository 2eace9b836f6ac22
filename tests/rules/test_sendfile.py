"""Files that applications name: X-Sendfile and X-Accel-Redirect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.sendfile import below, file_fields, not_modified_fields, redirected

FOLDERS = (b"/srv/app/private/", b"/data/private/")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (b"/srv/app/private/a.pdf", b"a.pdf"),
        (b"/data/private/a.pdf", b"a.pdf"),
        (b"/srv/app/private/a b/100%.txt", b"a%20b/100%25.txt"),
        ("/srv/app/private/é?".encode(), b"%C3%A9%3F"),
        (b"/srv/app/private/../secret", b"../secret"),  # the catalog refuses it
        (b"/srv/app/private", None),
        (b"/srv/app/private2/a.pdf", None),
        (b"private/a.pdf", None),
        (b"", None),
    ],
)
def test_a_file_name_is_looked_for_in_the_allowed_folders(path: bytes, key: bytes | None) -> None:
    assert below(path, FOLDERS) == key


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (b"/protected/a.pdf", b"/protected/a.pdf"),
        (b"/protected/a%20b.pdf", b"/protected/a%20b.pdf"),
        (b"/protected/a b.pdf", b"/protected/a%20b.pdf"),
        ("/protected/é".encode(), b"/protected/%C3%A9"),
        (b"/protected/a.pdf?download=1", b"/protected/a.pdf"),
        (b"/protected/../secret", b"/secret"),
        (b"/protected/%2e%2E/secret", b"/secret"),
        (b"/protected/..%2Fsecret", b"/protected/..%2Fsecret"),  # the catalog refuses it
        (b"/protected/100%", None),
        (b"/a%00b", None),
        (b"http://other/", None),
        (b"@named", None),
        (b"", None),
    ],
)
def test_a_redirect_is_a_normalised_path(value: bytes, path: bytes | None) -> None:
    assert redirected(value) == path


@given(st.binary())
def test_no_redirect_leads_above_its_prefix(value: bytes) -> None:
    path = redirected(b"/protected/" + value)
    assert path is None or b".." not in path.split(b"/")


OF_FILE = [
    (b"Content-Type", b"application/pdf"),
    (b"ETag", b'"file"'),
    (b"Last-Modified", b"now"),
    (b"Accept-Ranges", b"bytes"),
    (b"Cache-Control", b"no-cache"),
]


def test_the_application_s_fields_stay_and_its_content_s_do_not() -> None:
    said = [
        (b"content-type", b"text/x"),
        (b"Set-Cookie", b"a=1"),
        (b"Content-Disposition", b"attachment"),
        (b"ETag", b'"of nothing"'),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Range", b"bytes 0-1/2"),
        (b"Last-Modified", b"never"),
    ]
    assert file_fields(said, OF_FILE) == [*said[:3], *OF_FILE[1:]]


@pytest.mark.parametrize("name", [b"Cache-Control", b"Expires"])
def test_what_the_application_says_of_freshness_counts(name: bytes) -> None:
    assert file_fields([(name, b"x")], OF_FILE) == [(name, b"x"), *OF_FILE[:4]]


def test_without_a_word_on_freshness_caches_ask_again() -> None:
    assert (b"Cache-Control", b"no-cache") in file_fields([], OF_FILE)


def test_a_304_does_not_describe_content() -> None:
    lines = [*OF_FILE, (b"Content-Location", b"/a"), (b"Content-Disposition", b"inline")]
    assert not_modified_fields(lines) == [*OF_FILE[1:], (b"Content-Location", b"/a")]
