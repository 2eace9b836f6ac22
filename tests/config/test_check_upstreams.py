"""What `proxyd check` says about TLS to upstreams."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from proxy.config.check import check
from proxy.config.check_upstreams import upstream_encryption
from proxy.config.load import parse
from tests.config.pki import Issued


def found(folder: Path, tls: str) -> list[str]:
    text = f"""
[[route]]
path = "/*"
to = "shop"
[upstream.shop]
servers = ["127.0.0.1:1"]
tls = {tls}
"""
    config = parse(text, folder / "proxy.toml")
    return [f"{finding.text}; {finding.fix}" for finding in upstream_encryption(config)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Issued.authority()
    client = authority.issue("proxyd", client=True)
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "cert.pem").write_bytes(client.certificate.public_bytes(Encoding.PEM))
    for name, how in (("key", NoEncryption()), ("closed", BestAvailableEncryption(b"secret"))):
        data = client.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
        (tmp_path / f"{name}.pem").write_bytes(data)
    (tmp_path / "empty.pem").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ("false", []),
        ("true", []),
        ('{ ca = "ca.pem", certificate = "cert.pem", key = "key.pem" }', []),
        ('{ ca = "missing.pem" }', []),  # the check of all paths says so
        ("{ verify = false }", ["the servers' certificates are not verified"]),
        ('{ ca = "empty.pem" }', ["empty.pem holds no certificates of authorities"]),
        ('{ certificate = "cert.pem" }', ["is no client certificate"]),
        ('{ certificate = "ca.pem", key = "key.pem" }', ["is no client certificate"]),
        ('{ certificate = "cert.pem", key = "closed.pem" }', ["has a password"]),
    ],
)
def test_what_is_wrong_is_found_and_what_is_right_is_not(
    folder: Path, tls: str, said: list[str]
) -> None:
    got = found(folder, tls)
    assert len(got) == len(said)
    assert all(part in text for part, text in zip(said, got, strict=True))


def test_files_that_are_not_there_are_found_with_the_other_paths(folder: Path) -> None:
    text = """
[[route]]
path = "/*"
to = "shop"
[upstream.shop]
servers = ["127.0.0.1:1"]
tls = { ca = "missing.pem" }
"""
    texts = [finding.text for finding in check(parse(text, folder / "proxy.toml"))]
    assert any("missing.pem does not exist" in text for text in texts)
