"""What [[listen]] says of TLS is what listeners and requests are given."""

from pathlib import Path

import pytest

from proxy.compose import entrance, tls_policy
from proxy.config.load import parse
from proxy.config.schema import Config
from proxy.pipeline.entrance import OPEN, Entrance
from proxy.protocol.tls import Policy


def configuration(*listeners: str) -> Config:
    text = '[[route]]\npath = "/*"\nfiles = "."\n'
    for number, lines in enumerate(listeners):
        address = "" if "address" in lines else f'address = "127.0.0.{number + 1}:80"\n'
        text += f"[[listen]]\n{address}{lines}\n"
    return parse(text, Path("proxy.toml"))


def entrance_of(config: Config, index: int = 0) -> Entrance:
    return entrance(config, config.listen[index])


@pytest.mark.parametrize(
    ("lines", "policy"),
    [
        ("", Policy()),
        ('tls_profile = "modern"', Policy(profile="modern")),
        ('client_ca = "a"', Policy(client_certificate="required")),
        (
            'client_ca = "a"\nclient_certificate = "optional"',
            Policy(client_certificate="optional"),
        ),
        ('client_certificate = "optional"', Policy()),
    ],
)
def test_a_listener_asks_what_it_says(lines: str, policy: Policy) -> None:
    assert tls_policy(configuration('tls = "internal"\n' + lines).listen[0]) == policy


def test_a_listener_that_says_nothing_costs_its_requests_nothing() -> None:
    assert entrance_of(configuration("")) is OPEN
    assert entrance_of(configuration('tls = "internal"')) is OPEN


def test_hsts_is_encoded_once_and_only_for_https() -> None:
    config = configuration('tls = "internal"\nhsts = "1d"', 'hsts = "1d"')
    assert entrance_of(config).hsts_line == b"Strict-Transport-Security: max-age=86400\r\n"
    assert entrance_of(config, 1) is OPEN


@pytest.mark.parametrize(
    ("lines", "others", "port"),
    [
        ("true", (), 443),
        ("true", ('address = "a:8443"\ntls = "internal"',), 8443),
        ("true", ('address = "a:0"\ntls = "internal"',), 443),
        ("true", ('address = "unix:s"\ntls = "internal"', 'tls = "internal"'), 80),
        ("8444", ('address = "a:8443"\ntls = "internal"',), 8444),
        ("false", ('tls = "internal"',), 0),
    ],
)
def test_a_redirect_goes_to_the_port_of_https(
    lines: str, others: tuple[str, ...], port: int
) -> None:
    config = configuration(f"https_redirect = {lines}", *others)
    assert entrance_of(config).https_port == port


def test_a_listener_of_https_redirects_nowhere() -> None:
    config = configuration('tls = "internal"\nhttps_redirect = true')
    assert entrance_of(config).https_port == 0
