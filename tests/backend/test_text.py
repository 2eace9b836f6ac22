"""Text, times and sizes as templates show them."""

import pytest

from backend.view.text import day, file_size, iso, moment, rich


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "plain"),
        ("<b>&\"'", "&lt;b&gt;&amp;&#34;&#39;"),
        ("@mira hi", '<a href="/u/mira">@mira</a> hi'),
        ("(@mira_2, @yuki.)", '(<a href="/u/mira_2">@mira_2</a>, <a href="/u/yuki">@yuki</a>.)'),
        ("mail me@example.com", "mail me@example.com"),
        ("@x alone", "@x alone"),
        (
            "See https://example.com/a?b=1&c=2.",
            'See <a href="https://example.com/a?b=1&amp;c=2" rel="nofollow ugc">'
            "example.com/a?b=1&amp;c=2</a>.",
        ),
        ("https://", "https://"),
        (
            'http://a.test/"onclick=1',
            '<a href="http://a.test/" rel="nofollow ugc">a.test/</a>&#34;onclick=1',
        ),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)
def test_text_is_escaped_and_its_addresses_and_names_are_links(text: str, html: str) -> None:
    assert str(rich(text)) == html


def test_a_time_is_told_in_utc() -> None:
    assert iso(86_399) == "1970-01-01T23:59:59Z"
    assert moment(86_399) == "1 Jan 1970, 23:59 UTC"
    assert day(86_399) == "January 1970"


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1023 * 1024, "1023.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (1 << 30, "1.0 GiB"),
        (5 << 40, "5120.0 GiB"),
    ],
)
def test_a_size_is_told_in_the_largest_unit_that_keeps_it_above_one(
    size_bytes: int, shown: str
) -> None:
    assert file_size(size_bytes) == shown
