"""What an application may be: one of ours or another server, told where to listen, below a path."""

from pathlib import Path

import pytest

from proxy.config.applications import filled
from proxy.config.load import parse
from proxy.errors import ConfigError

ROUTE = '[[route]]\npath = "/*"\nto = "shop"\n'


def app(lines: str, route: str = ROUTE) -> str:
    return f"{route}[app.shop]\n{lines}\n"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("/srv/proxy.toml"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("threads = 2", 'is missing; write wsgi = "module:object", or `command`'),
        ('wsgi = "a:b"\ncommand = ["x", "{socket}"]', "cannot be there beside `command`"),
        ("command = []", "names no program"),
        ('command = [""]', "names no program"),
        ('command = "x {socket}"', "no shell reads it"),
        ('command = ["x", "\\u0000"]', "NUL"),
        ('command = ["x"]', "does not tell the server where to listen"),
        ('command = ["x", "{socket}", "{port}"]', "has {socket} and {port}"),
        ('command = ["x", "{sock}"]', "has the placeholder {sock}; there are {socket} and {port}"),
        ('command = ["x", "{port}"]\nserver = "gevent"', "`command` names its server itself"),
        ('command = ["x", "{port}"]\nmount = "/shop"', 'SCRIPT_NAME = "/shop"'),
        ('wsgi = "a:b"\nmount = "/"', "leave `mount` out"),
        ('wsgi = "a:b"\nmount = "shop"', 'write "/shop"'),
        ('wsgi = "a:b"\nmount = "/shop/*"', 'write "/shop"'),
        ('wsgi = "a:b"\nmount = "/sch%C3%B6n"', "choose a path of plain characters"),
    ],
)
def test_a_mistake_is_told_with_the_way_out(lines: str, said: str) -> None:
    assert said in refused(app(lines))


@pytest.mark.parametrize(
    ("lines", "port"),
    [
        ('command = ["x", "unix:{socket}"]', False),
        ('command = ["x", "127.0.0.1:{port}"]', True),
        ('command = ["x"]\nenv = { PORT = "{port}" }', True),
        ('env = { AT = "{socket}" }\ncommand = ["x", "{\\"a\\": 1}"]', False),
    ],
)
def test_another_server_is_told_where_to_listen(lines: str, port: bool) -> None:
    shop = parse(app(lines), Path("/srv/proxy.toml")).app["shop"]
    assert shop.command is not None
    assert shop.command.on_port(shop.env) is port
    assert shop.runs == "x"


def test_only_the_place_is_filled_in() -> None:
    assert filled("unix:{socket} {x} {}", {"socket": "/a b"}) == "unix:/a b {x} {}"


@pytest.mark.parametrize("path", ["/shop", "/shop/*", "/shop/static/*"])
def test_routes_to_an_application_lie_below_its_mount(path: str) -> None:
    text = app('wsgi = "a:b"\nmount = "/shop"', ROUTE.replace("/*", path))
    assert parse(text, Path("/srv/proxy.toml")).app["shop"].mount == "/shop"


@pytest.mark.parametrize("path", ["/*", "/", "/shopping/*", "/other"])
def test_a_route_elsewhere_is_refused(path: str) -> None:
    text = app('wsgi = "a:b"\nmount = "/shop"', ROUTE.replace("/*", path))
    assert 'to: "shop" lives below "/shop"' in refused(text)


def test_a_mount_and_a_stripped_prefix_are_one_too_many() -> None:
    route = ROUTE.replace("/*", "/shop/*") + "strip_prefix = true\n"
    assert "taken off already" in refused(app('wsgi = "a:b"\nmount = "/shop"', route))
