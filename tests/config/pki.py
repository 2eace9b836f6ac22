"""Authorities and certificates for tests, made as they are needed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass
class Issued:
    """A certificate with its key; an authority when it can `issue`."""

    certificate: x509.Certificate
    key: Key

    @classmethod
    def authority(cls, common: str = "Test Authority", parent: Self | None = None) -> Self:
        """Make an authority, signed by `parent` or by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name(common), key, parent, NOW - DAY, NOW + 300 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, True)
        return cls(builder.sign(parent.key if parent else key, hashes.SHA256()), key)

    def issue(
        self,
        *names: str,
        subject: x509.Name | None = None,
        begins: datetime = NOW - DAY,
        ends: datetime = NOW + 90 * DAY,
        key: Key | None = None,
        client: bool = False,
        tells_issuer: bool = False,
    ) -> "Issued":
        """Make a certificate for hosts or addresses, or for a client."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject or name(names[0]), key, self, begins, ends)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        if names:
            alternatives = x509.SubjectAlternativeName(list(map(general_name, names)))
            builder = builder.add_extension(alternatives, False)
        if tells_issuer:
            where = x509.UniformResourceIdentifier("http://ca.example/ca.der")
            access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, passphrase: bytes | None = None) -> bytes:
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def write(self, folder: Path, stem: str, *chain: "Issued") -> tuple[Path, Path]:
        """Write `stem`.pem, with `chain` behind it, and `stem`.key; return both paths.

        Each appears at once, as certbot does it.
        """
        certificate, key = folder / f"{stem}.pem", folder / f"{stem}.key"
        pem = b"".join(issued.pem for issued in (self, *chain))
        for path, content in ((certificate, pem), (key, self.key_pem())):
            new = path.with_suffix(".new")
            new.touch(0o600)
            new.write_bytes(content)
            new.replace(path)
        return certificate, key


def _builder(
    subject: x509.Name, key: Key, parent: Issued | None, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    issuer = parent.certificate.subject if parent else subject
    signer = parent.key if parent else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
    )
