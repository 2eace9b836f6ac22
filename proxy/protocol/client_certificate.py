"""What the application learns of a client's certificate, as field lines.

Client-Cert is RFC 9440's; the others are in the words of nginx's variables, for applications that
do not want to parse a certificate. `rules.forwarding` sees to it that nobody outside can set them.
"""

import base64
import re
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.message import FieldLine

# Connections of one client come in numbers, each with the same certificate.
REMEMBERED = 256

NONE: tuple[FieldLine, ...] = ((b"X-Client-Cert-Verify", b"NONE"),)

_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


def identity_fields(der: bytes | None) -> tuple[FieldLine, ...]:
    """Return who the client is, by the certificate that was verified; None when it had none."""
    return NONE if der is None else _fields(der)


@lru_cache(REMEMBERED)
def _fields(der: bytes) -> tuple[FieldLine, ...]:
    certificate = x509.load_der_x509_certificate(der)
    return (
        (b"X-Client-Cert-Verify", b"SUCCESS"),
        (b"X-Client-Cert-Subject", distinguished(certificate.subject)),
        (b"X-Client-Cert-Issuer", distinguished(certificate.issuer)),
        (b"X-Client-Cert-Serial", b"%X" % certificate.serial_number),
        (b"X-Client-Cert-Fingerprint", certificate.fingerprint(SHA256()).hex().encode()),
        (b"Client-Cert", b":%b:" % base64.b64encode(der)),  # RFC 9440 §2.1, RFC 9651 §3.3.5
    )


def distinguished(name: x509.Name) -> bytes:
    """Write a name as RFC 4514 does, in printable ASCII: the rest in hex pairs (§2.4)."""
    text = name.rfc4514_string()
    return _NOT_PRINTABLE.sub(_hex_pairs, text).encode()


def _hex_pairs(found: re.Match[str]) -> str:
    return "".join(f"\\{byte:02X}" for byte in found[0].encode("utf-8", "replace"))
