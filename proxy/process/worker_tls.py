"""TLS as a worker has it: contexts made of what the master hands over, and made again."""

import logging
import ssl

import msgspec

from proxy.compose import tls_policy
from proxy.config.schema import Config
from proxy.errors import StartError
from proxy.protocol.ticket_keys import TicketSecret
from proxy.protocol.tls import Contexts, TlsDocument

log = logging.getLogger("proxyd.tls")


class WorkerTls:
    """The contexts of every listener with TLS, by its index in proxy.toml."""

    def __init__(self, config: Config, encoded: str | bytes) -> None:
        document = msgspec.json.decode(encoded, type=TlsDocument)
        self.secret = TicketSecret(document.secret, document.day)
        self.contexts: dict[int, Contexts] = {}
        for index, material in document.listeners.items():
            policy = tls_policy(config.listen[index])
            try:
                self.contexts[index] = Contexts(policy, material, self.secret)
            except ssl.SSLError as error:
                raise StartError(
                    f"OpenSSL does not take the certificates of {config.listen[index].address}: "
                    f"{error}"
                ) from None
        if any(not contexts.shares_tickets for contexts in self.contexts.values()):
            log.info("with this Python, TLS sessions are resumed only within one worker")

    def take(self, encoded: bytes) -> None:
        """Serve new connections with what the master has read again."""
        try:
            document = msgspec.json.decode(encoded, type=TlsDocument)
        except msgspec.MsgspecError as error:
            log.error("the old certificates stay: %s", error)  # noqa: TRY400
            return
        for index, material in document.listeners.items():
            try:
                self.contexts[index].load(material)
            except (KeyError, ssl.SSLError) as error:
                log.error("the old certificates stay: %s", error)  # noqa: TRY400

    def tick(self, now: float) -> None:
        """Change the key of tickets when it is another day; `now` is seconds since the epoch."""
        if self.secret.advance(now):
            for contexts in self.contexts.values():
                contexts.renew_tickets()
