"""`tls = "internal"`: an authority of this machine's own, and a certificate that it signed.

state_dir/
  authority.pem        what browsers are told to trust; anybody may read it
  tls/                 0700
    authority.key      whoever has it can be any site to those who trust it: 0600
    internal.pem .key  the certificate of this machine's names, made again before it ends

For development: nobody else trusts it. Precedent: mkcert, Caddy's `tls internal`.
"""

import os
import re
import socket
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.config.certificates import issued, names_of, spki
from proxy.config.schema import Config
from proxy.config.tls import KeyPair
from proxy.errors import StartError
from proxy.process.privileges import make_folder
from proxy.upstream.address import TcpAddress

AUTHORITY_LIFE: Final = timedelta(days=3650)
# Apple takes no certificate of more than 825 days, and public authorities go down to 47.
LEAF_LIFE: Final = timedelta(days=90)
LEAF_RENEWED: Final = timedelta(days=30)

_HOST = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*")


def authority_file(config: Config) -> Path:
    """Return where the certificate of the authority is."""
    return config.server.state_dir / "authority.pem"


def internal_pair(config: Config) -> KeyPair:
    """Return the files of the certificate, made or renewed when needed; raises StartError."""
    folder = config.server.state_dir / "tls"
    make_folder(folder, 0o700, None)
    pair = KeyPair(certificate=folder / "internal.pem", key=folder / "internal.key")
    names = tuple(dict.fromkeys(names_for(config)))
    now = datetime.now(UTC)
    try:
        authority, key = _authority(authority_file(config), folder / "authority.key", now)
        if not _lasts(pair, authority, names, now):
            _make_leaf(pair, authority, key, names, now)
    except OSError as error:
        raise StartError(
            f'the certificates of tls = "internal" cannot be kept in {folder}: {error.strerror}'
        ) from None
    return pair


def names_for(config: Config) -> Iterable[str]:
    """Yield what this machine may be called by its own browsers."""
    yield from ("localhost", "127.0.0.1", "::1")
    if _HOST.fullmatch(name := socket.gethostname().lower()):
        yield name
    for listen in config.listen:
        if listen.tls == "internal" and isinstance(listen.address, TcpAddress):
            host = listen.address.host.strip("[]").lower()
            if host not in {"0.0.0.0", "::"}:  # noqa: S104
                yield host
    for route in config.route:
        yield from route.host or ()


def how_to_trust(config: Config) -> str:
    """Say how a person lets this machine trust the authority."""
    file = authority_file(config)
    if sys.platform == "darwin":
        system = f"sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain {file}"
    else:
        there = "/usr/local/share/ca-certificates/proxyd.crt"
        system = f"sudo cp {file} {there} && sudo update-ca-certificates"
    return f"{system}; browsers with a store of their own import that file; curl --cacert {file}"


def _authority(
    file: Path, key_file: Path, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return the authority; what is damaged, at its end, or not a pair is made anew."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), None)
        if (
            isinstance(key, ec.EllipticCurvePrivateKey)
            and spki(key.public_key()) == spki(certificate.public_key())
            and now + LEAF_LIFE < certificate.not_valid_after_utc
        ):
            return certificate, key
    except (FileNotFoundError, ValueError):
        pass
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "proxyd development authority"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{socket.gethostname()} {now:%Y-%m-%d}"[:64]),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _private(key), 0o600)
    _write(file, certificate.public_bytes(Encoding.PEM), 0o644)
    return certificate, key


def _lasts(
    pair: KeyPair, authority: x509.Certificate, names: tuple[str, ...], now: datetime
) -> bool:
    """Say whether the certificate that is there will do for some time."""
    try:
        certificate = x509.load_pem_x509_certificates(pair.certificate.read_bytes())[0]
        key = load_pem_private_key(pair.key.read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return False
    return (
        set(names_of(certificate)) == set(names)
        and issued(certificate, authority)
        and isinstance(key, ec.EllipticCurvePrivateKey)
        and spki(key.public_key()) == spki(certificate.public_key())
        and now + LEAF_RENEWED < certificate.not_valid_after_utc
    )


def _make_leaf(
    pair: KeyPair,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    now: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    certificate = (
        _builder(subject, authority.subject, key, now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    chain = certificate.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    _write(pair.key, _private(key), 0o600)
    _write(pair.certificate, chain, 0o600)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # for clocks that are a little behind
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in its place at once, never readable by more than `mode` allows."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(new, flags, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask is
        file.write(content)
    new.replace(path)
