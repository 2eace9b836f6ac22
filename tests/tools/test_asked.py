"""URLs, methods and fields as people write them."""

import pytest

from proxy.errors import CommandError
from proxy.message import Fields
from proxy.tools.asked import asked, field, url_of


def test_a_url_becomes_the_request_that_a_client_sends() -> None:
    wanted = asked("https://Example.com/a%7Eb?c=1", ["Cookie: x=1"], "HEAD")
    request = wanted.request
    assert wanted.scheme == b"https"
    assert (request.method, request.path, request.query) == (b"HEAD", b"/a~b", b"c=1")
    assert request.authority == b"example.com"
    assert request.fields == Fields([(b"Host", b"example.com"), (b"Cookie", b"x=1")])
    assert url_of(wanted) == "https://example.com/a~b?c=1"


def test_routes_see_the_decoded_path() -> None:
    assert asked("http://h/a%2Fb").request.route_path == b"/a/b"


def test_what_is_not_ascii_is_sent_as_utf_8() -> None:
    assert asked("http://h/ä").request.path == b"/%C3%A4"


def test_an_address_without_a_path_is_its_root() -> None:
    assert asked("http://h").request.path == b"/"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("/a", "http://HOST/a"),
        ("h/a", "no URL"),
        ("ftp://h/", "no URL"),
        ("http://h/a#b", "no URL"),
    ],
)
def test_what_is_no_url_gets_a_hint(url: str, hint: str) -> None:
    with pytest.raises(CommandError, match=hint):
        asked(url)


@pytest.mark.parametrize("text", ["Cookie", ": x", "A b: c", "A: b\nC: d"])
def test_what_is_no_field_gets_a_hint(text: str) -> None:
    with pytest.raises(CommandError, match="Name: value"):
        field(text)


def test_a_method_is_a_word() -> None:
    with pytest.raises(CommandError, match="no method"):
        asked("http://h/", method="GET /")
