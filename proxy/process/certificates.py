"""The certificates of one generation: read by the master, handed to its workers, read again.

The master reads them as the user that started it, so that keys may be root's alone; workers get
them on their standard input (see workers.py), and never look at the files. Every second the files'
times are looked at; what has changed, and is the same a second later (a certificate and its key do
not change at once), is read, and goes to the workers when it can be served. What cannot leaves the
old one at work.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from proxy.config.schema import Config, Listen
from proxy.config.tls import KeyPair
from proxy.errors import CertificateError, StartError
from proxy.protocol.ticket_keys import TicketSecret
from proxy.protocol.tls import Certificate, Material, TlsDocument

log = logging.getLogger("proxyd.tls")

CHECK_S = 1.0
# How often it is seen to that the internal certificate does not end.
RENEW_S = 3600.0

Stamp = tuple[int, int, int] | None


class Certificates:
    """What the listeners of one configuration serve; `encoded` is it in JSON, for workers."""

    def __init__(self, config: Config, secret: TicketSecret) -> None:
        self._config = config
        self._secret = secret
        self._listens = {
            index: listen for index, listen in enumerate(config.listen) if listen.tls is not None
        }
        self._internal: KeyPair | None = None
        self._listeners: dict[int, Material] = {}
        self._loaded: dict[Path, Stamp] = {}
        self._seen: dict[Path, Stamp] = {}
        self.encoded = b""

    def load(self) -> None:
        """Read everything; raises StartError with the file, what is wrong, and the way out."""
        self._renew()
        self._loaded = self._seen = self._stamps()
        try:
            self._listeners = {
                index: self._material(listen) for index, listen in self._listens.items()
            }
        except CertificateError as error:
            raise StartError(f"{error}; {error.fix}") from None
        self._encode()

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever `encoded` is new, until cancelled."""
        if not self._listens:
            return
        renew_at = time.monotonic() + RENEW_S
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                if self._secret.advance(time.time()):
                    self._encode()  # for workers to come; those that run know what day it is
                if time.monotonic() >= renew_at:
                    renew_at += RENEW_S
                    self._renew()
                if self._reread():
                    changed()
            except StartError as error:
                log.error("%s", error)  # noqa: TRY400 - its traceback says nothing to a person
            except Exception:  # what was not foreseen, must not end the watch
                log.exception("the certificates could not be looked at")

    def _reread(self) -> bool:
        """Read what has changed and then stayed as it is for one turn; True when it is new."""
        now = self._stamps()
        settled, self._seen = now == self._seen, now
        if now == self._loaded or not settled:
            return False
        self._loaded = now
        try:
            listeners = {index: self._material(listen) for index, listen in self._listens.items()}
        except CertificateError as error:
            log.error(  # noqa: TRY400 - its traceback says nothing to a person
                "the old certificates stay: %s; %s", error, error.fix
            )
            return False
        if listeners == self._listeners:
            return False
        self._listeners = listeners
        self._encode()
        log.info("certificates read again")
        return True

    def _renew(self) -> None:
        """Make the internal certificate, or make it again before it ends; raises StartError."""
        if any(listen.tls == "internal" for listen in self._listens.values()):
            from proxy.process.authority import internal_pair

            self._internal = internal_pair(self._config)

    def _material(self, listen: Listen) -> Material:
        """Read the files of one listener; raises CertificateError."""
        # Here, because it needs a library that a daemon without TLS need not load.
        from proxy.config.certificates import faults, load_pair, parse_chain, read_file

        certificates = []
        for pair in self._pairs(listen):
            loaded = load_pair(pair)
            for fault in faults(loaded):
                log.warning("%s; %s", fault.text, fault.fix)
            certificates.append(
                Certificate(loaded.names, plain(loaded.certificate_pem), plain(loaded.key_pem))
            )
        client_ca = ""
        if listen.client_ca is not None:
            pem = read_file(listen.client_ca, "certificate")
            parse_chain(pem, listen.client_ca)
            client_ca = plain(pem)
        return Material(tuple(certificates), client_ca)

    def describe(self) -> list[dict[str, object]]:
        """Return what is served where, and until when: seconds since the epoch."""
        if not self._listeners:
            return []
        from cryptography import x509

        return [
            {
                "listener": str(self._listens[index].address),
                "names": list(served.names),
                "expires_at": x509.load_pem_x509_certificate(
                    served.certificate.encode()
                ).not_valid_after_utc.timestamp(),
            }
            for index, material in self._listeners.items()
            for served in material.certificates
        ]

    def _pairs(self, listen: Listen) -> tuple[KeyPair, ...]:
        if isinstance(listen.tls, tuple):
            return listen.tls
        return (self._internal,) if self._internal is not None else ()

    def _stamps(self) -> dict[Path, Stamp]:
        paths: list[Path] = []
        for listen in self._listens.values():
            for pair in self._pairs(listen):
                paths += (pair.certificate, pair.key)
            if listen.client_ca is not None:
                paths.append(listen.client_ca)
        return {path: stamp(path) for path in paths}

    def _encode(self) -> None:
        document = TlsDocument(self._secret.secret, self._secret.day, self._listeners)
        self.encoded = msgspec.json.encode(document)


def plain(pem: bytes) -> str:
    """Return a PEM file as text; remarks between its blocks may be in any encoding."""
    return pem.decode("ascii", "ignore")


def stamp(path: Path) -> Stamp:
    """Return what changes when a file does; None while it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
