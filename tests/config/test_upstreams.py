"""What may be said of the servers of an upstream, and what is said of a mistake in it."""

from pathlib import Path

import pytest

from proxy.config.backends import Upstream
from proxy.config.load import parse
from proxy.config.upstreams import Probe
from proxy.errors import ConfigError
from proxy.upstream.address import TcpAddress, UnixAddress
from proxy.upstream.server import Balance, Server, UpstreamTls

ROUTE = '[[route]]\npath = "/*"\nto = "shop"\n[upstream.shop]\n'
HOST = TcpAddress("a", 1)


def shop(lines: str) -> Upstream:
    servers = "" if lines.startswith("servers") else 'servers = ["a:1"]\n'
    return parse(f"{ROUTE}{servers}{lines}\n", Path("/srv/proxy.toml")).upstream["shop"]


def refused(lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        shop(lines)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('"a:1"', Server(address=HOST)),
        ('{ address = "a:1" }', Server(address=HOST)),
        ('{ address = "a:1", weight = 3 }', Server(address=HOST, weight=3)),
        ('{ address = "a:1", backup = false }', Server(address=HOST)),
        ('{ address = "a:1", max_connections = 7 }', Server(address=HOST, max_connections=7)),
        ('"unix:s"', Server(address=UnixAddress(Path("/srv/s")))),
    ],
)
def test_a_server_is_an_address_or_a_table(written: str, expected: Server) -> None:
    assert shop(f"servers = [{written}]").servers == (expected,)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('"a"', 'has no port; write "a:8080"'),
        ("7", 'must be "host:port" or "unix:path"'),
        ("{ weight = 2 }", 'lacks `address`; write { address = "host:port"'),
        ('{ address = "a:0" }', '`address` "a:0" has port 0'),
        ('{ address = "a:1", wait = 2 }', "has no `wait`; there are: address, weight, backup"),
        ('{ address = "a:1", weight = 0 }', "`weight` must be a whole number, at least 1"),
        ('{ address = "a:1", weight = 101 }', "`weight` must be at most 100"),
        ('{ address = "a:1", weight = true }', "`weight` must be a whole number"),
        ('{ address = "a:1", backup = "yes" }', "`backup` must be true or false"),
        ('{ address = "a:1", max_connections = 0 }', "`max_connections` must be a whole number"),
        ('{ address = "a:1", backup = true }', "has backups only"),
        ('"a:1", { address = "A:1" }', 'has "a:1" twice'),
    ],
)
def test_a_mistake_in_a_server_is_explained(written: str, said: str) -> None:
    assert said in refused(f"servers = [{written}]")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("round_robin", Balance()),
        ("least_conn", Balance(kind="least_conn")),
        ("hash path", Balance(kind="hash", source="path")),
        ("hash address", Balance(kind="hash", source="address")),
        ("hash header X-Shop", Balance(kind="hash", source="header", name="X-Shop")),
        ("hash cookie shop", Balance(kind="hash", source="cookie", name="shop")),
    ],
)
def test_a_way_to_balance_is_read(written: str, expected: Balance) -> None:
    assert shop(f'balance = "{written}"').balance == expected


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('"hash header"', 'lacks a name; write "hash header NAME"'),
        ('"hash header a:b"', 'must be "round_robin"'),
        ('"hash body"', 'must be "round_robin"'),
        ("1", 'must be "round_robin"'),
    ],
)
def test_a_mistake_in_balance_is_explained(written: str, said: str) -> None:
    assert said in refused(f"balance = {written}")


def test_a_probe_has_everything_that_it_may_have() -> None:
    written = """probe = { path = "/up?deep", interval = "1s", timeout = "500ms", rise = 1,
        fall = 5, statuses = [204, "3xx"], host = "app.internal" }""".replace("\n", "")
    assert shop(written).probe == Probe(
        path="/up?deep",
        interval_s=1,
        timeout_s=0.5,
        rise=1,
        fall=5,
        statuses=frozenset({204, *range(300, 400)}),
        host="app.internal",
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("true", 'write probe = { path = "/healthz" }'),
        ("{ rise = 1 }", "lacks `path`"),
        ('{ path = "up" }', '`path` must begin with "/"'),
        ("{ path = 1 }", "`path` must be a text in quotes"),
        ('{ path = "/a b" }', "have no spaces"),
        ('{ path = "/", interval = 5 }', "`interval` 5 has no unit"),
        ('{ path = "/", timeout = "0s" }', "`timeout` must be longer than 0"),
        ('{ path = "/", rise = 0 }', "`rise` must be a whole number, at least 1"),
        ('{ path = "/", statuses = [] }', "`statuses` must be a list with at least one"),
        ('{ path = "/", statuses = 200 }', "`statuses` must be a list"),
        ('{ path = "/", statuses = [99] }', "`statuses` has 99"),
        ('{ path = "/", statuses = ["ok"] }', "`statuses` has 'ok'"),
        ('{ path = "/", host = "a\\r\\nb" }', "`host` 'a\\r\\nb' is not a field value"),
        ('{ path = "/", port = 1 }', "has no `port`; there are: path, interval"),
    ],
)
def test_a_mistake_in_a_probe_is_explained(written: str, said: str) -> None:
    assert said in refused(f"probe = {written}")


def test_tls_has_everything_that_it_may_have() -> None:
    written = 'tls = { ca = "ca.pem", server_name = "a", certificate = "c.pem", key = "k.pem" }'
    assert shop(written).tls == UpstreamTls(
        ca_file=Path("/srv/ca.pem"),
        server_name="a",
        certificate=Path("/srv/c.pem"),
        key=Path("/srv/k.pem"),
    )
    assert shop("tls = { verify = false }").tls == UpstreamTls(verify=False)
    assert shop("tls = false").tls is None
    assert shop("").tls is None


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1", "must be true or {"),
        ('{ key = "k.pem" }', "has a `key` without a `certificate`"),
        ('{ verify = false, ca = "c.pem" }', "is of no use with verify = false"),
        ('{ ca = "~/c.pem" }', '`ca` "~/c.pem" begins with'),
        ("{ server_name = 1 }", "`server_name` must be a text in quotes"),
        ('{ name = "a" }', "has no `name`; there are: ca, server_name"),
    ],
)
def test_a_mistake_in_tls_is_explained(written: str, said: str) -> None:
    assert said in refused(f"tls = {written}")


def test_a_unix_socket_with_tls_needs_the_name_of_its_certificate() -> None:
    assert "needs a `server_name`" in refused('servers = ["unix:s"]\ntls = true')
    named = 'servers = ["unix:s"]\ntls = { server_name = "a" }'
    assert "cannot be probed" in refused(named + '\nprobe = { path = "/" }')
    assert shop(named).tls == UpstreamTls(server_name="a")
