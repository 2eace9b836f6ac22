"""What applications learn of a client certificate."""

import base64

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from proxy.protocol.client_certificate import distinguished, identity_fields
from tests.config.pki import Issued


def test_a_client_without_a_certificate_is_said_to_have_none() -> None:
    assert identity_fields(None) == ((b"X-Client-Cert-Verify", b"NONE"),)


def test_a_certificate_is_described_and_passed_on_whole() -> None:
    authority = Issued.authority("Staff")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Timeline, Inc."),
            x509.NameAttribute(NameOID.COMMON_NAME, "mira"),
        ]
    )
    certificate = authority.issue(subject=subject, client=True).certificate
    der = certificate.public_bytes(Encoding.DER)
    fields = dict(identity_fields(der))
    assert fields[b"X-Client-Cert-Verify"] == b"SUCCESS"
    assert fields[b"X-Client-Cert-Subject"] == rb"CN=mira,O=Timeline\, Inc."
    assert fields[b"X-Client-Cert-Issuer"] == b"CN=Staff"
    assert int(fields[b"X-Client-Cert-Serial"], 16) == certificate.serial_number
    assert bytes.fromhex(fields[b"X-Client-Cert-Fingerprint"].decode()) == (
        certificate.fingerprint(SHA256())
    )
    assert fields[b"Client-Cert"] == b":%b:" % base64.b64encode(der)
    assert identity_fields(der) is identity_fields(der), "it is worked out once"


def test_a_name_cannot_break_out_of_its_field_line() -> None:
    """RFC 4514 §2.4: any character may be written as the hex pairs of its octets."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "é\r\nX-Admin: 1\x7f")])
    assert distinguished(name) == rb"CN=\C3\A9\0D\0AX-Admin: 1\7F"
