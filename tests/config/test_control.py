"""[control]: where it listens, and that nobody gets at it whom nobody let in."""

from pathlib import Path

import pytest

from proxy.config.control import Control
from proxy.config.load import parse
from proxy.errors import ConfigError
from proxy.upstream.address import TcpAddress, UnixAddress

ROUTE = '\n[[route]]\npath = "/*"\nfiles = "."\n'
TOKEN = "0123456789abcdef"
PATH = Path("/srv/site/proxy.toml")


def control(text: str) -> Control:
    return parse(f"[control]\n{text}{ROUTE}", PATH).control


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        control(text)
    return str(caught.value)


def test_without_a_word_it_listens_on_a_socket_in_the_state_folder() -> None:
    config = parse(ROUTE, PATH)
    assert config.control.listens_on(Path("/state")) == UnixAddress(Path("/state/control.sock"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ('address = "off"', None),
        ('address = "unix:a.sock"', UnixAddress(Path("/srv/site/a.sock"))),
        (f'address = "[::1]:90"\ntoken = "{TOKEN}"', TcpAddress("::1", 90)),
        ('address = "localhost:90"\ntoken_file = "token"', TcpAddress("localhost", 90)),
    ],
)
def test_it_listens_where_it_is_told(text: str, address: TcpAddress | UnixAddress | None) -> None:
    assert control(text).listens_on(Path("/state")) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('address = "127.0.0.1:90"', "needs a `token` or a `token_file` (`openssl rand -hex 32`"),
        (f'token = "{TOKEN}"\ntoken_file = "a"', "one of them is enough"),
        ('token = "short"', "at least 16 letters"),
        ('token = "has a space in the middle"', "at least 16 letters"),
        ("token = 1234567812345678", "at least 16 letters"),
        ('address = "9090"', "has no port"),
        ('hosts = ["http://a"]', "is a URL"),
    ],
)
def test_a_mistake_says_the_way_out(text: str, said: str) -> None:
    assert said in refused(text)


def test_a_token_that_is_wrong_is_not_repeated() -> None:
    assert "my secret" not in refused('token = "my secret"')


def test_names_are_read_as_those_of_routes() -> None:
    assert control('hosts = ["Metrics.Example.COM"]').hosts == ("metrics.example.com",)
