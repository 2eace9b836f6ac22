"""Whether a certificate and its key can be served, and what clients would say to them.

`load_pair` raises what makes a pair useless; `faults` yields what clients, or a careful person,
would object to. Reads files; changes nothing.
"""

import os
import ssl
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID

from proxy.config.tls import KeyPair
from proxy.errors import CertificateError

# A chain has some 6 KB. What is larger is another kind of file, and is not read into memory.
LARGEST_BYTES: Final = 256 * 1024

Part = Literal["certificate", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A pair that belongs together. `names` are in lower case: DNS names and IP addresses."""

    pair: KeyPair
    certificate_pem: bytes
    key_pem: bytes
    chain: tuple[x509.Certificate, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong with a pair that can be served all the same."""

    level: Literal["error", "warning"]
    part: Part
    text: str
    fix: str


def load_pair(pair: KeyPair) -> Loaded:
    """Read both files and see that they belong together; raises CertificateError."""
    certificate_pem = read_file(pair.certificate, "certificate")
    key_pem = read_file(pair.key, "key")
    chain = parse_chain(certificate_pem, pair.certificate)
    held = parse_key(key_pem, pair.key)
    if spki(chain[0].public_key()) != held:
        if any(spki(other.public_key()) == held for other in chain[1:]):
            raise CertificateError(
                f"{pair.certificate}: the certificates are in the wrong order: the one that "
                f"belongs to {pair.key} is not the first",
                "put the server's own certificate first, and each issuer behind what it signed",
            )
        raise CertificateError(
            f"{pair.key} does not match {pair.certificate}, which is for {owner(chain[0])}",
            "name the key with which this certificate was requested",
            part="key",
        )
    return Loaded(
        pair=pair,
        certificate_pem=certificate_pem,
        key_pem=key_pem,
        chain=chain,
        names=names_of(chain[0]),
    )


def read_file(path: Path, part: Part) -> bytes:
    """Return the content of a PEM file; raises CertificateError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise CertificateError(
            f"{path} does not exist", "name the file, or make it with certbot or openssl", part=part
        ) from None
    except OSError as error:
        raise CertificateError(
            f"{path} cannot be read: {error.strerror}",
            "start proxyd as a user who may read it; as root, only the master reads it",
            part=part,
        ) from None
    if len(content) > LARGEST_BYTES:
        raise CertificateError(f"{path} is too large for a PEM file", "name another", part=part)
    return content


def parse_chain(pem: bytes, path: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM file, at least one; raises CertificateError."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        what = "holds no certificate" if b"-BEGIN CERTIFICATE-" not in pem else "is damaged"
        raise CertificateError(
            f"{path} {what}",
            "it must be PEM; from DER: openssl x509 -inform der -in FILE -out cert.pem",
        ) from None


def parse_key(pem: bytes, path: Path) -> bytes:
    """Return the public half of a PEM private key, in DER; raises CertificateError."""
    try:
        return spki(load_pem_private_key(pem, None).public_key())  # type: ignore[arg-type]
    except TypeError:
        raise CertificateError(
            f"{path} is encrypted, and nobody is there to type its passphrase",
            f"decrypt it: openssl pkey -in {path} -out key.pem",
            part="key",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        what = "holds no private key" if b"PRIVATE KEY-" not in pem else "is damaged"
        raise CertificateError(
            f"{path} {what}", "it must be PEM, and begin with -----BEGIN PRIVATE KEY", part="key"
        ) from None


def spki(key: CertificatePublicKeyTypes) -> bytes:
    """Return a public key in the one form in which two can be compared."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return what a certificate is for: its alternative names only, as browsers do. RFC 9525."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    hosts = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return (*hosts, *map(str, names.get_values_for_type(x509.IPAddress)))


def owner(certificate: x509.Certificate) -> str:
    """Say in short whose certificate it is."""
    names = names_of(certificate)
    if not names:
        return f'"{certificate.subject.rfc4514_string()}"'
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def faults(loaded: Loaded, now: datetime | None = None) -> Iterator[Fault]:
    """Yield what is wrong; `now` has a time zone."""
    yield from dates(loaded, now or datetime.now(UTC))
    yield from order(loaded)
    yield from openness(loaded.pair.key)
    if not loaded.names:
        yield Fault(
            level="error",
            part="certificate",
            text=f"{loaded.pair.certificate} has no alternative names (SAN), without which "
            f"browsers refuse it",
            fix="request it with subjectAltName = DNS:…",
        )


def dates(loaded: Loaded, now: datetime) -> Iterator[Fault]:
    """Find certificates of the chain whose time has passed, or has not come."""
    for certificate in loaded.chain:
        text = f"{loaded.pair.certificate}: the certificate for {owner(certificate)}"
        if now > certificate.not_valid_after_utc:
            since = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            yield Fault(
                level="error",
                part="certificate",
                text=f"{text} expired on {since}",
                fix="renew it; a running proxyd takes the new file within two seconds",
            )
        elif now < certificate.not_valid_before_utc:
            since = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            yield Fault(
                level="error",
                part="certificate",
                text=f"{text} is not valid before {since}",
                fix="see whether the clock of this machine is right: date -u",
            )


def order(loaded: Loaded) -> Iterator[Fault]:
    """Find a chain that clients cannot follow: out of order, or without its middle."""
    file = loaded.pair.certificate
    for lower, upper in pairwise(loaded.chain):
        if not issued(lower, upper):
            yield Fault(
                level="error",
                part="certificate",
                text=f"{file}: the chain is in the wrong order: behind the certificate for "
                f"{owner(lower)} must come its issuer, {lower.issuer.rfc4514_string()}",
                fix="put each issuer behind what it signed, the server's own certificate first",
            )
            return
    last = loaded.chain[-1]
    if last.issuer == last.subject or last.issuer.public_bytes() in known_authorities():
        return
    yield Fault(
        # Public authorities say where their own certificate is; private ones mostly do not.
        level="error" if names_its_issuer(last) else "warning",
        part="certificate",
        text=f"{file}: the chain is incomplete: {last.issuer.rfc4514_string()}, who signed the "
        f"last certificate in it, is no authority that this machine knows",
        fix="append the intermediate certificates (certbot's fullchain.pem has them)",
    )


def issued(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    """Say whether `upper` signed `lower`."""
    try:
        lower.verify_directly_issued_by(upper)
    except Exception:  # a wrong signature and an unknown algorithm come in many types
        return False
    return True


def names_its_issuer(certificate: x509.Certificate) -> bool:
    """Say whether a certificate tells where its issuer's is to be had. RFC 5280 §4.2.2.1."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(
        item.access_method == AuthorityInformationAccessOID.CA_ISSUERS for item in access.value
    )


@lru_cache(1)
def known_authorities() -> frozenset[bytes]:
    """Return the names, in DER, of the authorities that this machine trusts."""
    found = set()
    with warnings.catch_warnings(action="ignore"):  # old roots are not quite what is allowed today
        for der in ssl.create_default_context().get_ca_certs(binary_form=True):
            with suppress(ValueError):
                found.add(x509.load_der_x509_certificate(der).subject.public_bytes())
    return frozenset(found)


def openness(key: Path) -> Iterator[Fault]:
    """Find a key that everybody on this machine can read."""
    mode = key.stat().st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH) and reachable_by_others(key):
        yield Fault(
            level="error",
            part="key",
            text=f"{key} can be read by every user of this machine ({stat.filemode(mode)})",
            fix=f"chmod o= {key}; if others may have read it, get a new key",
        )


def reachable_by_others(path: Path) -> bool:
    """Say whether every user can enter the folders above `path`."""
    real = Path(os.path.realpath(path))
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
