"""Which requests a route answers, and what a site says of itself."""

import pytest

from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route, Site
from proxy.rules.forwarding import TrustedNetworks
from tests.protocol.wire import LogLines


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        (b"/*", b"/", True),
        (b"/*", b"/a/b", True),
        (b"/static/*", b"/static/", True),
        (b"/static/*", b"/static/a", True),
        (b"/static/*", b"/static", True),
        (b"/static/*", b"/statics", False),
        (b"/static/*", b"/", False),
        (b"/a", b"/a", True),
        (b"/a", b"/a/", False),
        (b"/a", b"/", False),
    ],
)
def test_paths_match_whole_segments(pattern: bytes, path: bytes, matches: bool) -> None:
    assert Route("r", respond, pattern).matches(b"h", path) == matches


@pytest.mark.parametrize(
    ("host", "matches"),
    [
        (b"example.com", True),
        (b"www.example.com", False),
        (b"a.example.org", True),
        (b"a.b.example.org", True),
        (b"example.org", False),
        (b"badexample.org", False),
        (b"", False),
    ],
)
def test_hosts_match_whole_or_by_what_stands_behind_the_star(host: bytes, matches: bool) -> None:
    route = Route("r", respond)
    route.hosts = frozenset((b"example.com",))
    route.host_suffixes = (b".example.org",)
    assert route.matches(host, b"/") == matches


def test_suffixes_alone_are_enough() -> None:
    route = Route("r", respond)
    route.host_suffixes = (b".example.org",)
    assert route.matches(b"a.example.org", b"/")
    assert not route.matches(b"example.com", b"/")


@pytest.mark.parametrize(("shown", "line"), [(True, b"Server: proxyd\r\n"), (False, b"")])
def test_the_name_of_the_server_can_be_turned_off(shown: bool, line: bytes) -> None:
    log = LogLines()
    site = Site((), TrustedNetworks(()), log, server_header=shown)  # type: ignore[arg-type]
    assert site.server_line == line
    assert site.pass_server != shown
