"""Reading proxy.toml: syntax, files that cannot be read, every mistake at once, what is kept."""

import os
import tomllib
from pathlib import Path

import pytest

from proxy.config.load import STARTER, load, parse, syntax_mistake
from proxy.config.routes import FilesRoute, ToRoute
from proxy.errors import ConfigError
from proxy.upstream.address import TcpAddress, UnixAddress
from proxy.upstream.server import Server

SMALLEST = '[[route]]\npath = "/*"\nfiles = "."\n'


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("proxy.toml"))
    return str(caught.value)


def test_the_smallest_file_has_every_default() -> None:
    config = parse(SMALLEST, Path("/srv/site/proxy.toml"))
    assert config.folder == Path("/srv/site")
    assert [str(listen.address) for listen in config.listen] == ["127.0.0.1:8080"]
    assert config.server.state_dir == Path("/srv/site/var")
    assert config.limits.body == 1024**3
    assert config.timeouts.tunnel == 3600.0
    assert config.log.access == "-"
    (route,) = config.route
    assert isinstance(route, FilesRoute)
    assert route.files == Path("/srv/site")
    assert route.index == ("index.html",)


def test_the_file_that_beginners_are_shown_is_valid() -> None:
    config = parse(STARTER, Path("proxy.toml"))
    assert [type(route) for route in config.route] == [FilesRoute, ToRoute]


def test_a_file_with_everything_is_read_into_plain_values() -> None:
    config = parse(
        """
        [[listen]]
        address = "[::1]:8443"
        [[listen]]
        address = "unix:run/proxyd.sock"
        [app.site]
        wsgi = "site.wsgi:app"
        threads = 20
        read_timeout = "5m"
        [upstream.legacy]
        servers = ["LocalHost:9000", "unix:/run/legacy.sock"]
        [[route]]
        path = "/api/*"
        host = ["API.example.com", "*.example.org"]
        to = "legacy"
        strip_prefix = true
        buffer_response = false
        body_limit = "10MB"
        headers = { X-Frame-Options = "DENY" }
        [[route]]
        path = "/*"
        files = "/srv/spa"
        try = ["{path}", "/index.html"]
        """,
        Path("/etc/proxy.toml"),
    )
    assert config.listen[0].address == TcpAddress("::1", 8443)
    assert str(config.listen[0].address) == "[::1]:8443"
    assert config.listen[1].address == UnixAddress(Path("/etc/run/proxyd.sock"))
    assert config.upstream["legacy"].servers == (
        Server(address=TcpAddress("localhost", 9000)),
        Server(address=UnixAddress(Path("/run/legacy.sock"))),
    )
    assert config.app["site"].max_connections == 22
    assert config.app["site"].read_timeout == 300.0
    legacy, spa = config.route
    assert isinstance(legacy, ToRoute)
    assert isinstance(spa, FilesRoute)
    assert legacy.host == ("api.example.com", "*.example.org")
    assert (legacy.to, legacy.strip_prefix, legacy.buffer_response) == ("legacy", True, 0)
    assert (legacy.body_limit, legacy.read_timeout) == (10_000_000, None)
    assert legacy.headers == {"X-Frame-Options": "DENY"}
    assert spa.try_files == ("{path}", "/index.html")
    assert config.source.where(("route", 0, "to")) == "/etc/proxy.toml:15"


def test_all_mistakes_are_reported_at_once_with_line_key_and_way_out() -> None:
    text = """\
[server]
worker = 4
threads = 8
trusted_proxies = ["10.0.0.1/8"]

[[listen]]
address = "127.0.0.1"

[limits]
body = "8k"

[metrics]
memory = "1GiB"

[app.timeline]
wsgi = "backend/wsgi.py:app"
server = "waitres"
threads = "8"

[[route]]
path = "static/*"
files = "static"
body_limit = "1MiB"

[[route]]
path = "/*"
to = "timelin"
listing = true
"""
    assert complaint(text).splitlines() == [
        'proxy.toml:2: server.worker: there is no such key; did you mean "workers"?',
        "proxy.toml:3: server.threads: there is no such key here; it belongs to [app.NAME]",
        'proxy.toml:4: server.trusted_proxies[0]: "10.0.0.1/8" has bits behind its mask; '
        'write "10.0.0.0/8"',
        'proxy.toml:7: listen[0].address: "127.0.0.1" has no port; write "127.0.0.1:8080"',
        'proxy.toml:10: limits.body: "8k" has half a unit; write "8KiB" (powers of 1024, as in '
        'nginx and Apache) or "8kB" (powers of 1000)',
        "proxy.toml:12: metrics: there is no such key; there are: app, cache, control, files, "
        "limits, listen, log, route, server, timeouts, upstream",
        'proxy.toml:16: app.timeline.wsgi: "backend/wsgi.py:app" is a file; write the module: '
        '"backend.wsgi:app"',
        'proxy.toml:17: app.timeline.server: must be one of "waitress", "gevent", "werkzeug", not '
        '"waitres"; did you mean "waitress"?',
        'proxy.toml:18: app.timeline.threads: must be a whole number, without quotes, not "8"',
        'proxy.toml:21: route[0].path: "static/*" does not begin with "/"; write "/static/*"',
        "proxy.toml:23: route[0].body_limit: is only for routes with `to`",
        "proxy.toml:27: route[1].to: there is no [app.timelin] and no [upstream.timelin]; "
        'did you mean "timeline"?',
        "proxy.toml:28: route[1].listing: is only for routes with `files`",
        "13 mistakes",
    ]


def test_one_mistake_is_one_line() -> None:
    assert complaint(SMALLEST + "[server]\nusr = 'x'") == (
        'proxy.toml:5: server.usr: there is no such key; did you mean "user"?'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "proxy.toml:1: route: is missing, so nothing would be served"),
        ("route = []", "proxy.toml:1: route: is empty; it needs at least one [[route]]"),
        ("route = [1]", "route[0]: is a list of tables; write [[route]]"),
        ('[route]\npath = "/*"', "route: is a list of tables; write [[route]]"),
        ('[[route]]\npath = "/*"', "route[0].to: is missing: a route needs `files` (a folder) or"),
        ('[[route]]\npath = "/*"\nlisting = true', "route[0].files: is missing: a route needs"),
        ('[[route]]\nfiles = "."', "route[0].path: is missing, and there is no default"),
        (
            '[[route]]\npath = "/*"\nfiles = "."\nto = "site"',
            "proxy.toml:4: route[0].to: a route has `files` or `to`, not both; make it two routes",
        ),
        (
            '[[route]]\npath = "/*"\nto = "x"',
            "route[0].to: there is no [app.x] and no [upstream.x]",
        ),
        (
            '[upstream.legacy]\nservers = ["a:1"]\n[[route]]\npath = "/*"\nto = "x"',
            "no [upstream.x]; there are: legacy",
        ),
        (SMALLEST + "[[server]]\nuser = 'x'", "server: is a table; write [server]"),
        (SMALLEST + "[app]\nwsgi = 'a:b'", "app.wsgi: has tables with names; write [app.NAME]"),
        (SMALLEST + "[[upstream]]\nservers = []", "upstream: has tables with names"),
        (SMALLEST + "[app.a]", 'app.a.wsgi: is missing; write wsgi = "module:object"'),
        (
            SMALLEST + "[app.a]\nwsgi = 'a:b'\n[upstream.a]\nservers = ['a:1']",
            "proxy.toml:6: upstream.a: is also the name of an app",
        ),
        (SMALLEST + "[app.a]\nwsgi = 'a:b'\nthreads = 'x'", "app.a.threads: must be a whole"),
        (SMALLEST + "headers = 1", "route[0].headers: must be a table, not 1; write headers = {"),
        (SMALLEST + "try = 1", "route[0].try: must be a list in [ ], not 1"),
        (SMALLEST + "[[listen]]\naddress = 'a:1'\n" * 2, 'proxy.toml:4: listen: has "a:1" twice'),
        (SMALLEST + "[upstream.a]\nservers = ['a:0']", '"a:0" has port 0'),
        (SMALLEST + "[upstream.a]\nservers = ['a:1', 'A:1']", 'servers: has "a:1" twice'),
        (SMALLEST + "[upstream.a]\nservers = 'a:1'", 'must be a list in [ ], not "a:1"'),
        (SMALLEST + "[server]\nuser = []", "server.user: must be a text in quotes, not a list"),
        (SMALLEST + "[server]\nuser = {}", "server.user: must be a text in quotes, not a table"),
        (
            SMALLEST + f"[log]\nlevel = '{'x' * 99}'",
            f'not "{"x" * 37}…"',
        ),
    ],
)
def test_a_mistake_is_said_in_the_words_of_the_file(text: str, message: str) -> None:
    assert message in complaint(text)


def test_a_default_that_hangs_on_a_mistake_is_not_a_second_mistake() -> None:
    said = complaint(SMALLEST + "[app.a]\nwsgi = 'a:b'\nthreads = 0")
    assert said == "proxy.toml:6: app.a.threads: must be at least 1, not 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[server]\n\tuser = = "x"',
            'proxy.toml:2:9: this is not TOML: Invalid value\n   user = = "x"',
        ),
        ("a = 1\nb = [1,\n\n", "proxy.toml:2:8: this is not TOML: Invalid value\n  b = [1,\n"),
        ("", "route: is missing"),
        ("a = 1\na = 2", "proxy.toml:2:6: this is not TOML: Cannot overwrite a value"),
        ("a = " + "9" * 5000, "proxy.toml cannot be read: Exceeds the limit"),
        ("a = " + "[" * 5000 + "]" * 5000, "its values are nested too deeply"),
    ],
)
def test_broken_toml_is_shown_with_its_place(text: str, message: str) -> None:
    assert message in complaint(text)


def test_the_place_of_broken_toml_is_marked_below_its_line() -> None:
    *_, line, mark = complaint("[server]\nworkers = nope\n").splitlines()
    assert line == "  workers = nope"
    assert mark.index("^") == line.index("nope")


def test_a_missing_file_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "proxy.toml")
    assert f"there is no {tmp_path / 'proxy.toml'}" in str(caught.value)
    assert "-c FILE" in str(caught.value)
    assert STARTER in str(caught.value)


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; name the file: -c .*/proxy\.toml"):
        load(tmp_path)


def test_a_file_that_is_not_utf_8_is_refused_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_bytes(b"[server]\nuser = '\xe9'\n")
    with pytest.raises(ConfigError, match=r"proxy\.toml:2: this is not UTF-8"):
        load(file)


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    file = tmp_path / "loop.toml"
    file.symlink_to(file)
    with pytest.raises(ConfigError, match="cannot be read: "):
        load(file)


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert len(load(file).route) == 1


def test_relative_paths_begin_at_the_folder_of_the_file_and_not_at_the_present_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "proxy.toml").write_text(SMALLEST)
    monkeypatch.chdir(tmp_path)
    config = load(Path("etc/proxy.toml"))
    assert config.folder == tmp_path / "etc"
    assert config.server.state_dir == tmp_path / "etc" / "var"
    assert config.source.name == "etc/proxy.toml"


def test_auto_workers_are_the_cpus_that_may_be_used() -> None:
    config = parse(SMALLEST, Path("proxy.toml"))
    assert 1 <= config.server.worker_count() <= (os.cpu_count() or 1)
    assert parse(SMALLEST + "[server]\nworkers = 3", Path("p")).server.worker_count() == 3


def test_where_affinity_is_unknown_auto_workers_are_all_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert parse(SMALLEST, Path("proxy.toml")).server.worker_count() == 1


def test_broken_toml_without_a_place_is_still_named() -> None:
    said = syntax_mistake("", Path("proxy.toml"), tomllib.TOMLDecodeError("odd"))
    assert said == "proxy.toml is not TOML: odd"


TO = '[upstream.old]\nservers = ["a:1"]\n[[route]]\npath = "/a/*"\nto = "old"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cache = 1", "6: route[0].cache: is a table; write [route.cache]"),
        ("[route.cache]\nkey = 1", "7: route[0].cache.key: is a table; write [route.cache.key]"),
        ("[route.cache]\nrules = [1]", "7: route[0].cache.rules[0]: is a list of tables"),
        (
            "[route.cache.bypas]",
            'route[0].cache.bypas: there is no such key; did you mean "bypass"?',
        ),
        (
            "[route.cache.key]\nquery.kep = []",
            'query.kep: there is no such key; did you mean "keep"?',
        ),
        (
            "[[route.cache.rules]]\nttl = 1",
            'rules[0].ttl: there is no such key; did you mean "min_ttl"?',
        ),
        ('stale_if_error = "1s"', "no such key here; it belongs to [route.cache]"),
        (
            '[[route.cache.rules]]\ntype = "a/b"',
            "rules[0]: changes nothing; it needs one of default_ttl",
        ),
        ('[route.cache]\nmin_ttl = "2s"\nmax_ttl = "1s"', "max_ttl: is shorter than `min_ttl`"),
        (
            '[route.cache.key.query]\nkeep = []\nignore = ["a"]',
            "ignore: says nothing beside `keep`",
        ),
        (
            "[route.cache]\nstatus_ttl = { 40x = 1 }",
            'status_ttl.40x: "40x" is not a status such as',
        ),
        ("[[route.cache.rules]]\nstatus = []", "rules[0].status: is an empty list"),
        ("[[route.cache.rules]]\nstatus = true", "rules[0].status: True is not a status"),
        ('[[route.cache.rules]]\ntype = "a/b;c=d"', '"a/b;c=d" has parameters; write "a/b"'),
        ("[route.cache]\nignore = [1]", 'ignore[0]: must be one of "cache-control"'),
        ('[route.cache.key]\nheaders = ["Range"]', "the cache answers it by itself"),
        (
            '[route.cache.key]\nheaders = ["X-Forwarded-Proto"]',
            "`host` and `scheme` are in the key",
        ),
        ('[route.cache.key]\nheaders = ["X-Real-IP"]', "for each client another"),
        ('[route.cache]\nignore_cookies = ["a b"]', "is not the name of a cookie"),
        ('[route.cache.bypass]\nheaders = ["X-A:"]', 'has no value; write "X-A" or "X-A: value"'),
        ('[route.cache.bypass]\nheaders = ["X A"]', 'write "Name" or "Name: value"'),
    ],
)
def test_a_mistake_about_the_cache_names_the_way_out(text: str, said: str) -> None:
    assert said in complaint(TO + text)


@pytest.mark.parametrize(
    ("route", "path", "within"),
    [
        ("/*", "/", True),
        ("/*", "/x/*", True),
        ("/a/*", "/a", True),
        ("/a/*", "/a/*", True),
        ("/a/*", "/a/b", True),
        ("/a/*", "/ab", False),
        ("/a/*", "/b/*", False),
        ("/a/*", "/*", False),
        ("/a", "/a", True),
        ("/a", "/a/*", False),
    ],
)
@pytest.mark.parametrize(
    "table",
    ['[[route.cache.rules]]\nmax_ttl = "1s"\npath', "[route.cache.bypass]\npaths"],
)
def test_the_cache_of_a_route_is_about_its_own_paths(
    table: str, route: str, path: str, within: bool
) -> None:
    text = TO.replace("/a/*", route) + f'{table} = "{path}"'
    if within:
        parse(text, Path("proxy.toml"))
    else:
        assert f'route[0].cache: "{path}" is outside of "{route}"' in complaint(text)


def test_files_have_no_cache_but_memory() -> None:
    said = complaint(SMALLEST + "[route.cache]\nenabled = false")
    assert said.startswith("proxy.toml:4: route[0].cache: is only for routes with `to`; files are")
