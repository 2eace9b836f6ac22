"""What `proxyd check` says about the TLS of a configuration."""

from pathlib import Path

import pytest

from proxy.config.check_tls import encryption
from proxy.config.finding import Finding
from proxy.config.load import parse
from tests.config.pki import DAY, NOW, Issued

ROUTE = '[[route]]\nhost = ["{host}"]\npath = "/*"\nfiles = "."\n'
LISTEN = '[[listen]]\naddress = "127.0.0.1:0"\n'
TLS = 'tls = { certificate = "leaf.pem", key = "leaf.key" }\n'


@pytest.fixture(scope="module")
def root() -> Issued:
    return Issued.authority()


def findings(folder: Path, text: str, host: str = "a.example") -> list[Finding]:
    config = parse(ROUTE.replace("{host}", host) + text, folder / "proxy.toml")
    return list(encryption(config))


def test_a_listener_as_it_should_be_has_no_finding(tmp_path: Path, root: Issued) -> None:
    root.issue("a.example").write(tmp_path, "leaf", root)
    root.write(tmp_path, "ca")
    text = LISTEN + TLS + 'hsts = "365d"\nclient_ca = "ca.pem"\nclient_certificate = "optional"\n'
    redirect = '[[listen]]\naddress = "127.0.0.2:0"\nhttps_redirect = true\n'
    assert findings(tmp_path, text + redirect) == []


def test_a_pair_that_cannot_be_served_is_an_error_at_its_line(tmp_path: Path, root: Issued) -> None:
    root.issue("a.example").write(tmp_path, "leaf", root)
    (tmp_path / "leaf.key").write_bytes(Issued.authority().key_pem())
    (finding,) = findings(tmp_path, LISTEN + TLS)
    assert finding.level == "error"
    assert finding.key == ("listen", 0, "tls")
    assert "leaf.key does not match" in finding.text


def test_what_clients_would_object_to_is_told(tmp_path: Path, root: Issued) -> None:
    root.issue("a.example", begins=NOW - 9 * DAY, ends=NOW - DAY).write(tmp_path, "leaf", root)
    (finding,) = findings(tmp_path, LISTEN + TLS)
    assert "leaf.pem: the certificate for a.example expired" in finding.text


def test_a_host_that_no_certificate_is_for_is_hinted_at(tmp_path: Path, root: Issued) -> None:
    root.issue("a.example", "*.b.example").write(tmp_path, "leaf", root)
    assert findings(tmp_path, LISTEN + TLS, "c.b.example") == []
    (finding,) = findings(tmp_path, LISTEN + TLS, "b.example")
    assert finding.level == "warning"
    assert finding.text == "no certificate is for b.example; there are: *.b.example, a.example"
    internal = '[[listen]]\naddress = "127.0.0.2:0"\ntls = "internal"\n'
    assert findings(tmp_path, LISTEN + TLS + internal, "b.example") == []


def test_a_file_of_authorities_must_hold_some(tmp_path: Path, root: Issued) -> None:
    root.issue("a.example").write(tmp_path, "leaf", root)
    (finding,) = findings(tmp_path, LISTEN + TLS + 'client_ca = "ca.pem"\n')
    assert finding.key == ("listen", 0, "client_ca")
    assert "ca.pem does not exist" in finding.text
    (tmp_path / "ca.pem").write_bytes(b"")
    (finding,) = findings(tmp_path, LISTEN + TLS + 'client_ca = "ca.pem"\n')
    assert "ca.pem holds no certificate" in finding.text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('hsts = "1d"\n', "`hsts` has no effect on a listener without `tls`"),
        ('client_ca = "leaf.pem"\n', "`client_ca` has no effect"),
        (TLS + "https_redirect = true\n", "its requests are https already"),
        (TLS + 'client_certificate = "optional"\n', "could be accepted without `client_ca`"),
    ],
)
def test_keys_that_need_or_exclude_another_are_told(
    tmp_path: Path, root: Issued, lines: str, said: str
) -> None:
    root.issue("a.example").write(tmp_path, "leaf", root)
    (finding,) = findings(tmp_path, LISTEN + lines)
    assert finding.level == "error"
    assert said in finding.text
