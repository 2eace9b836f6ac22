"""The TLS of one listener: its contexts, one for each certificate, and which one a client gets.

The settings are Mozilla's Server Side TLS 6.0. Groups for the key exchange are OpenSSL's own list
(X25519MLKEM768 from 3.5 on, X25519, P-256 …), because Python's ssl can only set a single one; it
can neither send a list of acceptable authorities to clients nor staple OCSP responses.
"""

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

import msgspec

from proxy.message import FieldLine
from proxy.protocol.ticket_keys import TicketSecret, set_ticket_key

# Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
CIPHERS: Final = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)


class Certificate(msgspec.Struct, frozen=True):
    """A certificate with its chain, its key (both PEM), and the names that it is for."""

    names: tuple[str, ...]
    certificate: str
    key: str


class Material(msgspec.Struct, frozen=True):
    """What the master reads for one listener: certificates, the first for unknown names."""

    certificates: tuple[Certificate, ...]
    client_ca: str = ""


class TlsDocument(msgspec.Struct, frozen=True):
    """What the master says to a worker: the secret of tickets, material by [[listen]]'s index."""

    secret: bytes
    day: int
    listeners: Mapping[int, Material]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What one listener asks of its clients."""

    profile: Literal["intermediate", "modern"] = "intermediate"
    client_certificate: Literal["none", "optional", "required"] = "none"


class Contexts:
    """The contexts of a listener; `front` is the one with which a handshake begins.

    `identify` says who a client is by its certificate in DER, where the listener asks for one;
    `shares_tickets` whether sessions can be resumed with other workers.
    """

    __slots__ = (
        "_by_name",
        "_policy",
        "_purpose",
        "_secret",
        "front",
        "identify",
        "shares_tickets",
    )

    def __init__(self, policy: Policy, material: Material, secret: TicketSecret) -> None:
        self._policy = policy
        self._secret = secret
        self.identify: Callable[[bytes | None], tuple[FieldLine, ...]] | None = None
        if policy.client_certificate != "none":
            # Here, because it needs a library that a worker without such clients need not load.
            from proxy.protocol.client_certificate import identity_fields

            self.identify = identity_fields
        self.load(material)

    def load(self, material: Material) -> None:
        """Serve new connections with this from now on; raises ssl.SSLError, and changes nothing."""
        made = [
            (certificate, make_context(self._policy, certificate, material.client_ca))
            for certificate in material.certificates
        ]
        by_name: dict[str, ssl.SSLContext] = {}
        for certificate, context in made:
            for name in certificate.names:
                by_name.setdefault(name, context)
        front = made[0][1]
        if len(made) > 1:
            front.sni_callback = self._choose
        self.front = front
        self._by_name = by_name
        # A ticket vouches for a client's certificate without asking again, so it must not be one
        # of a listener that asks for less (as in CVE-2025-23419), or of other authorities.
        self._purpose = repr((self._policy, material.client_ca)).encode()
        self.renew_tickets()

    def renew_tickets(self) -> None:
        """Seal tickets with the key of today."""
        self.shares_tickets = set_ticket_key(self.front, self._secret, self._purpose)

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
    ) -> None:
        """Take the certificate for the name that the client asks for. RFC 6066 §3."""
        if name is None:
            return
        name = name.lower()
        by_name = self._by_name
        context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if context is not None:
            connection.context = context


def make_context(policy: Policy, certificate: Certificate, client_ca: str) -> ssl.SSLContext:
    """Return the context of one certificate; raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if policy.profile == "modern" else ssl.TLSVersion.TLSv1_2
    )
    context.set_ciphers(CIPHERS)
    # All of them are good, and a client knows which its processor is fast with.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    with as_file(certificate.certificate, certificate.key) as path:
        context.load_cert_chain(path, password="")  # or it would ask the terminal
    if policy.client_certificate != "none":
        context.load_verify_locations(cadata=client_ca)
        required = policy.client_certificate == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


@contextmanager
def as_file(*pem: str) -> Iterator[str]:
    """Give the path of a file with this text, which is all that Python's ssl takes.

    It is in memory where the system has such files (Linux), else private and removed at once.
    """
    content = "\n".join(pem).encode()
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("proxyd-tls")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:  # pragma: no cover - macOS
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
