"""Pairs of certificate and key: what is read, what is refused, and what clients would refuse."""

import re
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.config.certificates import LARGEST_BYTES, Fault, faults, load_pair, names_of
from proxy.config.tls import KeyPair
from proxy.errors import CertificateError
from tests.config.pki import DAY, NOW, Issued, name


@pytest.fixture(scope="module")
def root() -> Issued:
    return Issued.authority("Root")


@pytest.fixture(scope="module")
def middle(root: Issued) -> Issued:
    return Issued.authority("Middle", root)


@pytest.fixture(scope="module")
def leaf(middle: Issued) -> Issued:
    return middle.issue("a.example", "*.a.example", "192.0.2.1")


def written(folder: Path, leaf: Issued, *chain: Issued) -> KeyPair:
    certificate, key = leaf.write(folder, "leaf", *chain)
    return KeyPair(certificate=certificate, key=key)


def found(pair: KeyPair, now: datetime = NOW) -> list[Fault]:
    return list(faults(load_pair(pair), now))


def test_a_whole_chain_with_its_key_has_no_fault(
    tmp_path: Path, leaf: Issued, middle: Issued, root: Issued
) -> None:
    pair = written(tmp_path, leaf, middle, root)
    loaded = load_pair(pair)
    assert loaded.names == ("a.example", "*.a.example", "192.0.2.1")
    assert len(loaded.chain) == 3
    assert found(pair) == []


def test_an_rsa_key_is_as_good(tmp_path: Path, root: Issued) -> None:
    leaf = root.issue("r.example", key=rsa.generate_private_key(65537, 2048))
    assert found(written(tmp_path, leaf, root)) == []


def test_both_may_stand_in_one_file(tmp_path: Path, leaf: Issued, root: Issued) -> None:
    file = tmp_path / "both.pem"
    file.write_bytes(leaf.key_pem() + leaf.pem)
    file.chmod(0o600)
    assert load_pair(KeyPair(certificate=file, key=file)).names[0] == "a.example"


def refusal(pair: KeyPair) -> CertificateError:
    with pytest.raises(CertificateError) as caught:
        load_pair(pair)
    return caught.value


def test_a_key_that_does_not_match_is_told_with_both_files(
    tmp_path: Path, leaf: Issued, root: Issued
) -> None:
    pair = written(tmp_path, leaf)
    pair.key.write_bytes(root.key_pem())
    error = refusal(pair)
    assert str(error) == (
        f"{pair.key} does not match {pair.certificate}, "
        "which is for a.example, *.a.example, 192.0.2.1"
    )
    assert error.part == "key"


def test_a_chain_that_begins_with_the_authority_is_in_the_wrong_order(
    tmp_path: Path, leaf: Issued, middle: Issued
) -> None:
    pair = written(tmp_path, leaf)
    pair.certificate.write_bytes(middle.pem + leaf.pem)
    assert "the certificates are in the wrong order" in str(refusal(pair))


@pytest.mark.parametrize(
    ("certificate", "key", "text", "part"),
    [
        (b"", None, "leaf.pem holds no certificate", "certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", None, "leaf.pem is damaged", "certificate"),
        (b"\x30\x82", None, "leaf.pem holds no certificate", "certificate"),
        (b"-" * (LARGEST_BYTES + 1), None, "leaf.pem is too large", "certificate"),
        (None, b"", "leaf.key holds no private key", "key"),
        (
            None,
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "leaf.key is damaged",
            "key",
        ),
    ],
)
def test_what_is_no_pem_is_told(
    tmp_path: Path, leaf: Issued, certificate: bytes | None, key: bytes | None, text: str, part: str
) -> None:
    pair = written(tmp_path, leaf)
    if certificate is not None:
        pair.certificate.write_bytes(certificate)
    if key is not None:
        pair.key.write_bytes(key)
    error = refusal(pair)
    assert text in str(error)
    assert error.part == part


def test_an_encrypted_key_is_refused_with_the_way_to_decrypt_it(
    tmp_path: Path, leaf: Issued
) -> None:
    pair = written(tmp_path, leaf)
    pair.key.write_bytes(leaf.key_pem(b"secret"))
    error = refusal(pair)
    assert "leaf.key is encrypted" in str(error)
    assert f"openssl pkey -in {pair.key}" in error.fix


def test_a_file_that_is_not_there_is_named(tmp_path: Path, leaf: Issued) -> None:
    pair = written(tmp_path, leaf)
    pair.key.unlink()
    assert f"{pair.key} does not exist" in str(refusal(pair))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in str(
        refusal(KeyPair(certificate=tmp_path, key=tmp_path))
    )


def test_a_certificate_out_of_its_time_is_told_with_the_day(
    tmp_path: Path, leaf: Issued, middle: Issued, root: Issued
) -> None:
    pair = written(tmp_path, leaf, middle, root)
    (late,) = found(pair, NOW + 91 * DAY)
    assert late.level == "error"
    assert re.search(
        r"leaf.pem: the certificate for a.example, .* expired on 20..-..-..", late.text
    )
    assert all("is not valid before 20" in fault.text for fault in found(pair, NOW - 2 * DAY))
    assert len(found(pair, NOW - 2 * DAY)) == 3


def test_a_chain_in_the_wrong_order_names_the_issuer_that_must_come(
    tmp_path: Path, leaf: Issued, middle: Issued, root: Issued
) -> None:
    (fault,) = found(written(tmp_path, leaf, root, middle))
    assert "the chain is in the wrong order" in fault.text
    assert "must come its issuer, CN=Middle" in fault.text


def test_an_issuer_of_the_same_name_that_signed_nothing_is_in_the_wrong_order(
    tmp_path: Path, leaf: Issued, root: Issued
) -> None:
    (fault,) = found(written(tmp_path, leaf, Issued.authority("Middle", root), root))
    assert "the chain is in the wrong order" in fault.text


def test_a_chain_without_its_middle_is_incomplete(
    tmp_path: Path, leaf: Issued, middle: Issued
) -> None:
    (fault,) = found(written(tmp_path, leaf))
    assert fault.level == "warning"
    assert "the chain is incomplete: CN=Middle, who signed" in fault.text
    public = middle.issue("a.example", tells_issuer=True)
    (fault,) = found(written(tmp_path, public))
    assert fault.level == "error", "a public authority's certificate lacks its intermediate"


def test_an_issuer_that_this_machine_trusts_completes_the_chain(
    tmp_path: Path, leaf: Issued, middle: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorities = frozenset({middle.certificate.subject.public_bytes()})
    monkeypatch.setattr("proxy.config.certificates.known_authorities", lambda: authorities)
    assert found(written(tmp_path, leaf)) == []


def test_a_certificate_without_alternative_names_is_useless_to_browsers(
    tmp_path: Path, root: Issued
) -> None:
    bare = root.issue(subject=name("bare"))
    (fault,) = found(written(tmp_path, bare, root))
    assert "has no alternative names" in fault.text
    assert names_of(bare.certificate) == ()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Give a folder that everybody may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_key_that_everybody_can_read_is_an_error(
    public_folder: Path, leaf: Issued, middle: Issued, root: Issued
) -> None:
    pair = written(public_folder, leaf, middle, root)
    pair.key.chmod(0o640)
    assert found(pair) == []
    pair.key.chmod(0o644)
    (fault,) = found(pair)
    assert fault.part == "key"
    assert "leaf.key can be read by every user of this machine (-rw-r--r--)" in fault.text
    public_folder.chmod(0o700)
    assert found(pair) == []
