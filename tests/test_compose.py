"""What proxy.toml says is what the steps are given."""

from pathlib import Path

import pytest

from proxy.clock import Clock
from proxy.compose import Parts, client_limits
from proxy.config.load import load, parse
from proxy.files.asset import Asset
from proxy.pipeline.forward import forward
from proxy.pipeline.lookup import lookup
from proxy.pipeline.receive import receive
from proxy.pipeline.static import static
from proxy.rules.health import EjectionRules
from proxy.rules.negotiation import IDENTITY
from proxy.upstream.group import Group
from proxy.upstream.server import UpstreamTls

CONFIGURATION = """
[server]
server_header = false
trusted_proxies = ["10.0.0.0/8"]
worker_connections = 77

[log]
access = "access.log"

[limits]
body = "5MiB"
request_line = "4KiB"
pipeline_buffer = "9KiB"

[timeouts]
header = "7s"
tunnel = "9s"

[app.timeline]
wsgi = "backend.wsgi:app"

[upstream.legacy]
servers = ["127.0.0.1:9000", "unix:/run/legacy.sock"]
max_connections = 3
read_timeout = "8s"
total_timeout = "80s"

[[route]]
path = "/static/*"
files = "static"
cache_control = "max-age=5"

[[route]]
path = "/favicon.ico"
files = "static"
headers = { X-A = "b" }

[[route]]
path = "/api/*"
host = ["api.example.com", "*.example.org"]
to = "legacy"
strip_prefix = true
buffer_request = false
buffer_response = "1MiB"
body_limit = "1KiB"
read_timeout = "3s"
total_timeout = "30s"

[[route]]
path = "/*"
to = "timeline"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "proxy.toml").write_text(CONFIGURATION)
    (tmp_path / "static").mkdir()
    return tmp_path


@pytest.fixture
def parts(folder: Path) -> Parts:
    config = load(folder / "proxy.toml")
    return Parts(config, {"timeline": [folder / "a.sock", folder / "b.sock"]}, Clock())


def group_of(parts: Parts, name: str) -> Group:
    return parts.groups[name]


def test_the_site_is_what_the_server_section_says(parts: Parts, folder: Path) -> None:
    site = parts.site
    assert site.server_line == b""
    assert site.pass_server
    assert site.temp_folder == str(folder / "var" / "tmp")
    assert site.tunnel_timeout_s == 9
    assert "10.1.2.3" in site.trusted
    assert "192.0.2.1" not in site.trusted
    assert site.access_log is parts.access_log
    parts.close()


def test_routes_come_in_their_order_with_their_steps(parts: Parts) -> None:
    files, icon, api, rest = parts.site.routes
    assert [route.step for route in parts.site.routes] == [static, static, lookup, lookup]
    assert (files.prefix, icon.exact, api.prefix, rest.prefix) == (
        b"/static/", b"/favicon.ico", b"/api/", b"/",
    )  # fmt: skip
    assert files.catalog is not None
    assert icon.catalog is not None
    assert files.catalog.options.cache_control == "max-age=5"
    assert icon.catalog.options.cache_control != "max-age=5"
    assert parts.catalogs == [files.catalog, icon.catalog]
    assert api.group is parts.groups["legacy"]
    assert rest.group is parts.groups["timeline"]
    assert rest.bare is not None
    assert rest.bare.step is forward
    assert (rest.bare.cache, rest.bare.group) == (None, rest.group)
    parts.close()


def test_a_route_without_a_cache_goes_straight_on(tmp_path: Path) -> None:
    text = """
[[route]]
path = "/*"
to = "old"
[route.cache]
enabled = false
[upstream.old]
servers = ["127.0.0.1:1"]
"""
    made = Parts(parse(text, tmp_path / "proxy.toml"), {}, Clock())
    (route,) = made.site.routes
    assert (route.step, route.cache) == (forward, None)
    made.close()


def test_the_headers_of_a_route_are_encoded_once(parts: Parts) -> None:
    icon = parts.site.routes[1]
    assert icon.headers == ((b"X-A", b"b"),)
    assert icon.header_names == {b"x-a"}
    assert icon.catalog is not None
    assert icon.catalog.options.headers == icon.headers
    parts.close()


def test_a_route_keeps_its_own_bounds_or_has_those_of_all(parts: Parts) -> None:
    *_, api, rest = parts.site.routes
    assert api.hosts == {b"api.example.com"}
    assert api.host_suffixes == (b".example.org",)
    assert api.strip_prefix == b"/api"
    assert (api.buffer_request, api.buffer_response) == (False, 1 << 20)
    assert (api.body_limit, api.read_timeout_s, api.total_timeout_s) == (1024, 3, 30)
    assert not rest.hosts
    assert rest.strip_prefix == b""
    assert (rest.buffer_request, rest.buffer_response) == (True, 64 << 20)
    assert (rest.body_limit, rest.read_timeout_s, rest.total_timeout_s) == (5 << 20, None, None)
    parts.close()


def test_groups_have_the_servers_of_their_section(parts: Parts, folder: Path) -> None:
    def addresses(name: str) -> list[str]:
        return [str(pool.server.address) for pool in group_of(parts, name)._pools]

    assert addresses("timeline") == [f"unix:{folder}/a.sock", f"unix:{folder}/b.sock"]
    assert addresses("legacy") == ["127.0.0.1:9000", "unix:/run/legacy.sock"]
    options = group_of(parts, "legacy")._pools[0]._options
    assert (options.max_connections, options.read_timeout_s) == (3, 8)
    assert options.total_timeout_s == 80
    parts.close()


def test_a_group_chooses_and_ejects_as_its_section_says(folder: Path) -> None:
    with (folder / "proxy.toml").open("a") as file:
        file.write(
            """
            [upstream.shop]
            servers = ["127.0.0.1:9000", { address = "127.0.0.1:9001", weight = 3, backup = true }]
            balance = "least_conn"
            sticky_cookie = "srv"
            retries = 2
            retry_budget = 10
            slow_start = "30s"
            eject_failures = 7
            eject_rate = 25
            eject_time = "2s"
            eject_time_max = "1m"
            tls = { server_name = "shop.internal" }
            """
        )
    parts = Parts(load(folder / "proxy.toml"), {}, Clock())
    shop = group_of(parts, "shop")
    assert shop.keyed
    assert [(pool.server.weight, pool.server.backup) for pool in shop.pools] == [
        (1, False),
        (3, True),
    ]
    options = shop.pools[0]._options
    assert options.balance.kind == "least_conn"
    assert (options.retries, options.retry_budget_percent, options.slow_start_s) == (2, 10, 30)
    assert options.ejection == EjectionRules(failures=7, rate=0.25, first_s=2, longest_s=60)
    assert options.tls == UpstreamTls(server_name="shop.internal")
    assert not options.managed
    parts.close()


def test_requests_for_an_app_wait_while_it_is_started(parts: Parts) -> None:
    timeline, legacy = (group_of(parts, name).pools[0]._options for name in ("timeline", "legacy"))
    assert (timeline.managed, legacy.managed) == (True, False)
    assert timeline.balance.kind == "least_conn"
    assert timeline.ejection.longest_s == 1
    assert not group_of(parts, "timeline").keyed
    parts.close()


def test_an_app_without_a_socket_has_no_servers(folder: Path) -> None:
    parts = Parts(load(folder / "proxy.toml"), {}, Clock())
    assert group_of(parts, "timeline")._pools == []
    parts.close()


async def test_a_file_that_an_application_names_is_as_it_is_now(tmp_path: Path) -> None:
    """It may have been written for this very answer, and named before for another client."""
    text = (
        '[upstream.other]\nservers = ["127.0.0.1:81"]\nsendfile = "private"\n'
        '[[route]]\npath = "/"\nto = "other"\n'
    )
    (tmp_path / "private").mkdir()
    file = tmp_path / "private" / "a"
    parts = Parts(parse(text, tmp_path / "proxyd.toml"), {}, Clock())
    (below,) = parts.site.routes[0].sendfile
    sizes = []
    for content in ("for one", "for another"):
        file.write_text(content)
        found = await below.catalog.find(b"a")
        assert isinstance(found, Asset)
        sizes.append(found.representations[IDENTITY].length)
    assert sizes == [7, 11]
    parts.close()


def test_clients_are_bound_by_limits_and_timeouts(folder: Path) -> None:
    limits = client_limits(load(folder / "proxy.toml"))
    assert limits.request_line_bytes == 4096
    assert limits.pipeline_bytes == 9 * 1024
    assert limits.header_timeout_s == 7
    assert limits.worker_connections == 77


def test_only_routes_that_tell_times_run_what_measures(tmp_path: Path) -> None:
    text = """
[app.flask]
wsgi = "a:b"
[app.other]
command = ["gunicorn", "--bind", "unix:{socket}", "a:b"]
[[route]]
path = "/off"
to = "flask"
read_timeout = "7s"
[[route]]
path = "/on"
to = "flask"
server_timing = true
read_timeout = "7s"
[[route]]
path = "/other"
to = "other"
server_timing = true
[[route]]
path = "/static/*"
files = "static"
server_timing = true
"""
    made = Parts(parse(text, tmp_path / "proxy.toml"), {}, Clock())
    off, on, other, files = made.site.routes
    patience, asks = (b"X-Proxyd-Read-Timeout", b"7"), (b"X-Proxyd-Timing", b"1")
    assert (off.step, off.receive, off.private_lines) == (lookup, receive, (patience,))
    assert lookup not in {on.step, other.step}
    assert files.step is not static
    assert on.bare is not None
    assert (on.bare.step, on.bare.receive) == (forward, on.receive)
    assert on.receive is not receive
    assert on.bare.private_lines == on.private_lines == (patience, asks)
    assert other.private_lines == ()  # what serves it knows nothing of this
    made.close()
