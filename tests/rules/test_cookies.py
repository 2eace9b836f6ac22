"""The Cookie field. RFC 6265 §4.2."""

import pytest

from proxy.rules.cookies import parse_cookies


@pytest.mark.parametrize(
    ("value", "cookies"),
    [
        (None, []),
        (b"", []),
        (b" ; ;", []),
        (b"a=1", [(b"a", b"1")]),
        (b"a=1; b=2", [(b"a", b"1"), (b"b", b"2")]),
        (b"a=1;b=2", [(b"a", b"1"), (b"b", b"2")]),
        (b"a=1; a=2", [(b"a", b"1"), (b"a", b"2")]),
        (b"a = 1 ", [(b"a", b"1")]),
        (b"a=b=c", [(b"a", b"b=c")]),
        (b"a=", [(b"a", b"")]),
        (b"a", [(b"a", b"")]),
        (b"=a", [(b"", b"a")]),
        (b'a="1; b=2"', [(b"a", b'"1'), (b"b", b'2"')]),
    ],
)
def test_cookies_are_read_as_browsers_write_them(
    value: bytes | None, cookies: list[tuple[bytes, bytes]]
) -> None:
    assert parse_cookies(value) == cookies
