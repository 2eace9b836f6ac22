"""What [[listen]] may say about TLS."""

from pathlib import Path

import pytest

from proxy.config.load import parse
from proxy.config.tls import KeyPair, covers, host_port
from proxy.errors import ConfigError

HEAD = '[[route]]\npath = "/*"\nfiles = "."\n[[listen]]\naddress = "a:443"\n'
FILE = Path("/etc/proxyd/proxy.toml")


def read(line: str) -> object:
    listen = parse(HEAD + line, FILE).listen[0]
    return getattr(listen, line.partition(" ")[0])


def pair(stem: str) -> KeyPair:
    folder = FILE.parent
    return KeyPair(certificate=folder / f"{stem}.pem", key=folder / f"{stem}.key")


def test_a_pair_is_a_list_of_one_and_its_paths_begin_at_the_file_s_folder() -> None:
    assert read('tls = { certificate = "a.pem", key = "a.key" }') == (pair("a"),)
    assert read(
        'tls = [{ certificate = "a.pem", key = "a.key" }, { certificate = "b.pem", key = "b.key" }]'
    ) == (pair("a"), pair("b"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tls = []", "is an empty list"),
        ("tls = true", "must be { certificate ="),
        ("tls = {}", "lacks `certificate`"),
        ('tls = { certificate = "a" }', "lacks `key`"),
        ('tls = [{ certificate = "a", key = "b", ca = "c" }]', "has no `ca`; there are"),
        ('tls = { certificate = "~/a", key = "b" }', 'has a file that "~/a" begins with "~"'),
        ('hsts = ""', "must be a time in quotes"),
        ('hsts = "365"', "has no unit"),
        ('hsts = "1d subdomains"', 'has "subdomains"'),
        ('hsts = "1d includeSubDomains preload"', "must be at least"),
        ('hsts = "800d preload"', "must be at least"),
        ("https_redirect = 0", "must be true, false"),
        ("https_redirect = 1.5", "must be true, false"),
    ],
)
def test_what_cannot_be_meant_is_told(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(HEAD + line, FILE)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{FILE}:6: listen[0].")


def test_hsts_is_written_as_a_time_and_its_directives() -> None:
    assert read('hsts = "1d"') == "max-age=86400"
    assert read('hsts = "730d includesubdomains; preload"') == (
        "max-age=63072000; includeSubDomains; preload"
    )


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("a.example", "a.example", True),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "a.example", False),
        ("*.a.example", "c.b.a.example", False),
        ("*.a.example", "*.a.example", True),
        ("a.example", "b.example", False),
    ],
)
def test_a_star_stands_for_one_label(name: str, host: str, expected: bool) -> None:
    """RFC 9525 §6.3."""
    assert covers(name, host) is expected


def test_the_default_port_is_not_written() -> None:
    assert host_port("a.example", 443) == "a.example"
    assert host_port("a.example", 8443) == "a.example:8443"
