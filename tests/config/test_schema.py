"""Each option of proxy.toml: a valid file and what it becomes, an invalid one and its error."""

from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import keys, parse
from proxy.config.reference import meanings
from proxy.config.schema import SECTIONS
from proxy.config.upstreams import Probe
from proxy.errors import ConfigError
from proxy.upstream.server import Balance, UpstreamTls

# A file for each table into which one line can be put, and where that line ends up.
FILES_ROUTE = '[[route]]\npath = "/*"\nfiles = "."\n'
TO_ROUTE = 'upstream = { old = { servers = ["a:1"] } }\n[[route]]\npath = "/a/*"\nto = "old"\n'
FRAMES = {
    "[server]": (FILES_ROUTE + "[server]\n", "server"),
    "[[listen]]": (FILES_ROUTE + '[[listen]]\naddress = "[::1]:80"\n', "listen"),
    "[control]": (FILES_ROUTE + "[control]\n", "control"),
    "[limits]": (FILES_ROUTE + "[limits]\n", "limits"),
    "[timeouts]": (FILES_ROUTE + "[timeouts]\n", "timeouts"),
    "[files]": (FILES_ROUTE + "[files]\n", "files"),
    "[log]": (FILES_ROUTE + "[log]\n", "log"),
    "[app.NAME]": (FILES_ROUTE + '[app.site]\nwsgi = "site:app"\n', "app"),
    "[upstream.NAME]": (FILES_ROUTE + '[upstream.old]\nservers = ["a:1"]\n', "upstream"),
    "[[route]] with files": (FILES_ROUTE, "route"),
    "[[route]] with to": (TO_ROUTE, "route"),
    "[cache]": (FILES_ROUTE + "[cache]\n", "cache"),
    "[route.cache]": (TO_ROUTE + "[route.cache]\n", "route.cache"),
    "[route.cache.key]": (TO_ROUTE + "[route.cache.key]\n", "route.cache.key"),
    "[route.cache.key.query]": (TO_ROUTE + "[route.cache.key.query]\n", "route.cache.key.query"),
    "[route.cache.bypass]": (TO_ROUTE + "[route.cache.bypass]\n", "route.cache.bypass"),
    "[route.cache.no_store]": (TO_ROUTE + "[route.cache.no_store]\n", "route.cache.no_store"),
    "[[route.cache.rules]]": (
        TO_ROUTE + '[[route.cache.rules]]\nstale_if_error = "2s"\n',
        "route.cache.rules",
    ),
}

HALF = "has half a unit"
NO_UNIT = "has no unit"
WHOLE = "must be a whole number"
TRUTH = "must be true or false"
TEXT = "must be a text in quotes"

LIST = "must be a list in [ ]"

CONDITIONS = [
    ("cookies", '["wp_*", "a=1"]', ("wp_*", "a=1"), '["a b"]', 'write "name" or "name=value"'),
    ("headers", '["X-A", "X-B:c*"]', ("X-A", "X-B: c*"), '["Cookie"]', "write `cookies`"),
    ("query", '["preview"]', ("preview",), '["=1"]', "is not a query parameter"),
    ("paths", '"/a/b/*"', ("/a/b/*",), '"a"', 'does not begin with "/"'),
    ("methods", '["HEAD"]', ("HEAD",), '["POST"]', 'must be one of "GET", "HEAD"'),
]

LIFETIMES = [
    ("default_ttl", '"0s"', 0.0, "10", NO_UNIT),
    ("force_ttl", '"1m"', 60.0, '"0s"', "must be longer than 0"),
    ("min_ttl", '"10s"', 10.0, '"-1s"', "is not a duration"),
    ("max_ttl", '"1h"', 3600.0, "true", "is not a duration"),
    ("stale_while_revalidate", '"10s"', 10.0, "10", NO_UNIT),
    ("stale_if_error", '"1d"', 86400.0, '"1 day"', 'unknown unit "day"'),
    ("keep", '"0s"', 0.0, '"99999d"', "longer than ten years"),
]

BACKEND_OPTIONS = [
    ("connect_timeout", '"1s"', 1.0, "1", NO_UNIT),
    ("send_timeout", '"1m"', 60.0, '"0s"', "must be longer than 0"),
    ("read_timeout", '"1h"', 3600.0, '"1y"', 'unknown unit "y"'),
    ("total_timeout", '"5m"', 300.0, "300", NO_UNIT),
    ("queue", "1", 1, "0", "must be at least 1"),
    ("queue_timeout", '"500ms"', 0.5, '"500"', NO_UNIT),
    ("idle_connections", "8", 8, "true", WHOLE),
    ("idle_timeout", '"1s"', 1.0, "false", "is not a duration"),
    ("response_header", '"8KiB"', 8192, '"8k"', HALF),
    ("max_connections", "9", 9, "9.5", WHOLE),
    ("balance", '"random_two"', Balance(kind="random_two"), '"fair"', 'must be "round_robin"'),
    ("sticky_cookie", '"srv"', "srv", '"a b"', "must be the name of a cookie"),
    ("retries", "0", 0, "11", "must be at most 10"),
    ("sendfile", '"/srv"', {"/": Path("/srv")}, '{ a = "/srv" }', "must begin and end with a"),
    ("retry_budget", "100", 100, "101", "must be at most 100"),
]

# table, key, valid value, what it becomes, invalid value, what is said of it
OPTIONS = [
    ("[server]", "workers", "2", 2, "0", 'must be "auto" or a whole number'),
    ("[server]", "user", '"www-data"', "www-data", "33", TEXT),
    ("[server]", "group", '"www-data"', "www-data", "33", TEXT),
    ("[server]", "state_dir", '"/run/proxyd"', Path("/run/proxyd"), '"~/x"', "is not expanded"),
    ("[server]", "server_header", "false", False, '"off"', TRUTH),
    ("[server]", "trusted_proxies", '["10.0.0.0/8"]', ("10.0.0.0/8",), '["lan"]', "not a network"),
    ("[server]", "worker_connections", "512", 512, '"512"', WHOLE),
    ("[server]", "dev", "true", True, '"yes"', TRUTH),
    ("[[listen]]", "address", None, None, "8080", 'must be "host:port" or "unix:path"'),
    ("[[listen]]", "proxy_protocol", "true", True, '"v2"', TRUTH),
    ("[[listen]]", "backlog", "128", 128, "-1", "must be at least 1"),
    ("[[listen]]", "tls", '"internal"', "internal", '"auto"', "must be { certificate ="),
    ("[[listen]]", "tls_profile", '"modern"', "modern", '"old"', 'must be one of "intermediate"'),
    ("[[listen]]", "client_ca", '"/ca.pem"', Path("/ca.pem"), "true", "must be a path in quotes"),
    ("[[listen]]", "client_certificate", '"optional"', "optional", '"no"', "must be one of"),
    ("[[listen]]", "hsts", '"365d"', "max-age=31536000", "true", "must be a time in quotes"),
    ("[[listen]]", "https_redirect", "8443", 8443, '"yes"', "must be true, false, or the port"),
    ("[control]", "address", '"off"', "off", "true", 'must be "host:port" or "unix:path"'),
    ("[control]", "token", f'"{"a" * 16}"', "a" * 16, '"a"', "at least 16 letters"),
    ("[control]", "token_file", '"/t"', Path("/t"), '"~/t"', "is not expanded"),
    ("[control]", "hosts", '["A.b"]', ("a.b",), '["a:1"]', "has a port"),
    ("[limits]", "handshakes", "64", 64, "0", "must be at least 1"),
    ("[limits]", "request_line", '"16KiB"', 16384, '"16k"', HALF),
    ("[limits]", "headers", "65536", 65536, '"0"', "must be more than 0"),
    ("[limits]", "header_count", "50", 50, '"50"', WHOLE),
    ("[limits]", "body", '"2TiB"', 2 * 1024**4, '"0"', 'not "unlimited" here'),
    ("[limits]", "chunk_line", '"1KiB"', 1024, '"1 line"', 'unknown unit "line"'),
    ("[limits]", "trailers", '"1KiB"', 1024, "[]", "is not a size"),
    ("[limits]", "pipeline_buffer", '"1MB"', 1_000_000, "-1", "is not between 0 and"),
    ("[timeouts]", "handshake", '"5s"', 5.0, "5", NO_UNIT),
    ("[timeouts]", "header", '"10s"', 10.0, "10", NO_UNIT),
    ("[timeouts]", "body", '"1.5m"', 90.0, '"1.5"', NO_UNIT),
    ("[timeouts]", "keepalive", '"5s"', 5.0, '"0s"', "must be longer than 0"),
    ("[timeouts]", "send", '"10s"', 10.0, '"10 sec"', 'unknown unit "sec"'),
    ("[timeouts]", "tunnel", '"1d"', 86400.0, '"never"', "is not a duration"),
    ("[timeouts]", "linger", '"2s"', 2.0, '"-2s"', "is not a duration"),
    ("[timeouts]", "shutdown", '"1m"', 60.0, '"99999d"', "longer than ten years"),
    ("[timeouts]", "heartbeat", '"10s"', 10.0, "10", NO_UNIT),
    ("[files]", "memory", '"0"', 0, '"64M"', HALF),
    ("[files]", "small_file", '"64KiB"', 65536, "true", "is not a size"),
    ("[files]", "check_interval", '"100ms"', 0.1, '"2s"', 'must be at most "1s"'),
    ("[files]", "compress_min", "0", 0, '"0.5B"', "not a whole number of bytes"),
    ("[log]", "access", '"off"', "off", '""', "must be a path in quotes"),
    ("[log]", "format", '"json"', "json", '"xml"', 'must be one of "combined", "json"'),
    ("[log]", "error", '"e.log"', Path("/srv/e.log"), '"off"', 'cannot be "off"'),
    ("[log]", "level", '"debug"', "debug", '"warn"', 'did you mean "warning"?'),
    ("[log]", "flush_interval", '"1ms"', 0.001, "1", NO_UNIT),
    ("[log]", "buffer", '"4KiB"', 4096, '"0"', "must be more than 0"),
    *[("[app.NAME]", *option) for option in BACKEND_OPTIONS],
    ("[app.NAME]", "wsgi", None, None, '"site"', 'names no object; write "site:app"'),
    ("[app.NAME]", "server", '"gevent"', "gevent", '"uwsgi"', "must be one of"),
    ("[app.NAME]", "processes", "4", 4, "0", "must be at least 1"),
    ("[app.NAME]", "threads", "4", 4, "0", "must be at least 1"),
    ("[app.NAME]", "stuck_threads", "2", 2, "0", "must be at least 1"),
    ("[app.NAME]", "start_timeout", '"1m"', 60.0, "60", NO_UNIT),
    ("[app.NAME]", "user", '"shop"', "shop", "1", TEXT),
    ("[app.NAME]", "group", '"shop"', "shop", "[]", TEXT),
    (
        "[app.NAME]",
        "directory",
        '"shop"',
        Path("/srv/shop"),
        '"~/shop"',
        "which is not expanded",
    ),
    ("[app.NAME]", "venv", '".venv"', Path("/srv/.venv"), "1", "must be a path in quotes"),
    ("[app.NAME]", "mount", '"/shop"', "/shop", '"/shop/"', 'write "/shop"'),
    ("[app.NAME]", "command", None, None, '"gunicorn"', "must be a list of texts"),
    ("[app.NAME]", "max_requests", "1000", 1000, "0", "must be at least 1"),
    ("[app.NAME]", "max_age", '"1d"', 86400.0, "3600", NO_UNIT),
    ("[app.NAME]", "max_memory", '"1MiB"', 1 << 20, '"0"', "must be more than 0"),
    (
        "[app.NAME]",
        "readiness",
        '{ path = "/r", interval = "1s" }',
        Probe(path="/r", interval_s=1),
        "true",
        "write readiness = {",
    ),
    (
        "[app.NAME]",
        "liveness",
        '{ path = "/l", fall = 5 }',
        Probe(path="/l", fall=5),
        '{ path = "/l", rise = 1 }',
        "has no `rise`",
    ),
    ("[app.NAME]", "env", '{ A = "1" }', {"A": "1"}, "{ A = 1 }", TEXT),
    *[("[upstream.NAME]", *option) for option in BACKEND_OPTIONS],
    ("[upstream.NAME]", "servers", None, None, "[]", "is empty; it needs at least one"),
    ("[upstream.NAME]", "slow_start", '"30s"', 30.0, "30", NO_UNIT),
    ("[upstream.NAME]", "eject_failures", "3", 3, "0", "must be at least 1"),
    ("[upstream.NAME]", "eject_rate", "0", 0, "-1", "must be at least 0"),
    ("[upstream.NAME]", "eject_time", '"10s"', 10.0, "10", NO_UNIT),
    ("[upstream.NAME]", "eject_time_max", '"5m"', 300.0, '"0s"', "must be longer than 0"),
    ("[upstream.NAME]", "probe", '{ path = "/up" }', Probe(path="/up"), '"/up"', "write probe ="),
    ("[upstream.NAME]", "tls", "true", UpstreamTls(), '"yes"', "must be true or {"),
    *[
        option
        for table in ("[[route]] with files", "[[route]] with to")
        for option in [
            (table, "path", None, None, '"/a*"', '"*" that is not a whole last segment'),
            (table, "host", '"A.example"', ("a.example",), '"a:80"', "has a port"),
            (table, "headers", '{ X-A = "1" }', {"X-A": "1"}, '{ X = "a\\r\\n" }', "no line ends"),
            (table, "server_timing", "true", True, '"yes"', TRUTH),
        ]
    ],
    ("[[route]] with files", "files", None, None, "1", "must be a path in quotes"),
    ("[[route]] with files", "index", '["a.htm"]', ("a.htm",), '["a/b"]', "not the name of a file"),
    ("[[route]] with files", "try", '["{path}"]', ("{path}",), '["{uri}"]', "not {path}"),
    ("[[route]] with files", "listing", "true", True, "1", TRUTH),
    ("[[route]] with files", "dotfiles", "true", True, '"all"', TRUTH),
    ("[[route]] with files", "compress", "false", False, '["gzip"]', TRUTH),
    ("[[route]] with files", "precompressed", "false", False, "0", TRUTH),
    ("[[route]] with files", "cache_control", '"no-store"', "no-store", '" "', "not a field value"),
    ("[[route]] with to", "to", None, None, '"new"', "there is no [app.new]"),
    ("[[route]] with to", "buffer_request", "false", False, '"64KiB"', TRUTH),
    ("[[route]] with to", "buffer_response", "false", 0, "true", "is not a size"),
    ("[[route]] with to", "body_limit", '"1kB"', 1000, '"0"', "must be more than 0"),
    ("[[route]] with to", "strip_prefix", "true", True, '"/a"', TRUTH),
    ("[[route]] with to", "read_timeout", '"1d"', 86400.0, "false", "is not a duration"),
    ("[[route]] with to", "total_timeout", '"1h"', 3600.0, '"off"', "is not a duration"),
    ("[[route]] with to", "cache", None, None, "false", "write [route.cache]"),
    ("[cache]", "memory", '"64MiB"', 64 << 20, '"64M"', HALF),
    ("[cache]", "disk", '"0"', 0, "false", "is not a size"),
    ("[cache]", "folder", '"/var/c"', Path("/var/c"), '"~/c"', "is not expanded"),
    ("[cache]", "memory_object", '"64KiB"', 65536, '"0"', "must be more than 0"),
    ("[cache]", "memory_copies", '"0"', 0, '"64M"', HALF),
    ("[cache]", "purge_from", '["unix:"]', ("unix:",), '["lan"]', "is not a network"),
    ("[route.cache]", "enabled", "false", False, '"no"', TRUTH),
    *[("[route.cache]", *option) for option in LIFETIMES],
    (
        "[route.cache]",
        "status_ttl",
        '{ 404 = "10s", 5XX = "0s" }',
        {"404": 10.0, "5xx": 0.0},
        '"1s"',
        'write status_ttl = { 404 = "10s" }',
    ),
    ("[route.cache]", "key", None, None, '"host"', "write [route.cache.key]"),
    ("[route.cache]", "ignore_cookies", '["_ga*"]', ("_ga*",), '["a*b*"]', 'more than one "*"'),
    ("[route.cache]", "bypass", None, None, '["session"]', "write [route.cache.bypass]"),
    ("[route.cache]", "no_store", None, None, "true", "write [route.cache.no_store]"),
    ("[route.cache]", "ignore", '["Vary"]', ("vary",), '["cookie"]', 'did you mean "set-cookie"?'),
    ("[route.cache]", "largest_object", '"1MiB"', 1 << 20, '"0"', "must be more than 0"),
    ("[route.cache]", "slice", '"1MiB"', 1 << 20, '"1KiB"', 'must be at least "64KiB"'),
    ("[route.cache]", "targets", '["X-CDN"]', ("X-CDN",), '["a b"]', "is not a field name"),
    ("[route.cache]", "tags_to_client", "true", True, "1", TRUTH),
    ("[route.cache]", "rules", None, None, "{}", "write [[route.cache.rules]]"),
    ("[route.cache.key]", "query", None, None, "[]", 'write query = { ignore = ["utm_*"] }'),
    (
        "[route.cache.key]",
        "cookies",
        '["lang"]',
        ("lang",),
        '["l*"]',
        "is not the name of a cookie",
    ),
    ("[route.cache.key]", "headers", '["X-A"]', ("x-a",), '["Cookie"]', "write `cookies`"),
    ("[route.cache.key]", "host", "false", False, '"no"', TRUTH),
    ("[route.cache.key]", "scheme", "false", False, '"no"', TRUTH),
    ("[route.cache.key.query]", "keep", "[]", (), '["a=1"]', "is not the name of a query"),
    ("[route.cache.key.query]", "ignore", '["utm_*"]', ("utm_*",), '"utm_*"', LIST),
    ("[route.cache.key.query]", "sort", "true", True, '"name"', TRUTH),
    *[("[route.cache.bypass]", *option) for option in CONDITIONS],
    *[("[route.cache.no_store]", *option) for option in CONDITIONS],
    *[("[[route.cache.rules]]", *option) for option in LIFETIMES],
    ("[[route.cache.rules]]", "path", '"/a/b"', ("/a/b",), '"/b*"', '"*" that is not a whole last'),
    ("[[route.cache.rules]]", "host", '"A.b"', ("a.b",), '"a:1"', "has a port"),
    ("[[route.cache.rules]]", "status", '[404, "5xx"]', ("404", "5xx"), '"4x"', "is not a status"),
    ("[[route.cache.rules]]", "type", '"Image/*"', ("image/*",), '"html"', "is not a media type"),
]


def with_line(frame: str, key: str, value: str) -> str:
    """Return the file with `key` of its last table set so, also where that sets it already."""
    lines = frame.splitlines()
    heading = max(index for index, line in enumerate(lines) if line.startswith("["))
    kept = [line for line in lines[heading:] if not line.startswith(f"{key} = ")]
    return "\n".join([*lines[:heading], *kept, f"{key} = {value}"])


@pytest.mark.parametrize(
    ("table", "key", "value", "becomes"),
    [option[:4] for option in OPTIONS if option[2] is not None],
    ids=str,
)
def test_a_valid_value_is_read(table: str, key: str, value: str, becomes: object) -> None:
    frame, where = FRAMES[table]
    config = parse(with_line(frame, key, value), Path("/srv/proxy.toml"))
    held: Any = config
    for part in where.split("."):
        held = getattr(held, part)
        if isinstance(held, dict):
            (held,) = held.values()
        elif isinstance(held, tuple):
            (held,) = held
    assert getattr(held, "try_files" if key == "try" else key) == becomes


@pytest.mark.parametrize(
    ("table", "key", "value", "said"),
    [(*option[:2], *option[4:]) for option in OPTIONS],
    ids=str,
)
def test_an_invalid_value_is_refused_with_its_line_and_the_way_out(
    table: str, key: str, value: str, said: str
) -> None:
    text = with_line(FRAMES[table][0], key, value)
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("proxy.toml"))
    first, *more = str(caught.value).splitlines()
    assert first.startswith(f"proxy.toml:{len(text.splitlines())}: ")
    assert f"{key}" in first
    assert said in first
    assert not more


@pytest.mark.parametrize("path", ["/*", "/a"])
def test_a_prefix_is_only_stripped_where_there_is_one(path: str) -> None:
    text = FRAMES["[[route]] with to"][0].replace("/a/*", path) + "strip_prefix = true"
    with pytest.raises(ConfigError, match=r'strip_prefix: needs a path such as "/prefix/\*"'):
        parse(text, Path("proxy.toml"))


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_option_of_the_schema_is_in_the_table_above(heading: str) -> None:
    assert {key for table, key, *_ in OPTIONS if table == heading} == keys(SECTIONS[heading])


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_option_says_what_it_is(heading: str) -> None:
    described = meanings(SECTIONS[heading])
    for key in SECTIONS[heading].model_fields:
        assert described[key]


@pytest.mark.parametrize("heading", SECTIONS)
def test_an_unknown_key_is_refused_in_every_table(heading: str) -> None:
    with pytest.raises(ConfigError, match="there is no such key"):
        parse(with_line(FRAMES[heading][0], "zzz", "1"), Path("proxy.toml"))


def test_a_key_of_a_feature_that_is_not_there_is_unknown() -> None:
    with pytest.raises(ConfigError, match="there is no such key"):
        parse(f"{FILES_ROUTE}[acme]\n", Path("proxy.toml"))
