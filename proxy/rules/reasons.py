"""Why a rule decided as it did: what `proxyd explain` shows, and Cache-Status names. Pure."""

from typing import NamedTuple


class Reason(NamedTuple):
    """One reason, made once at import.

    `code` is short and in kebab-case, `text` one plain sentence, `source` where it comes from: a
    section ("RFC 9111 §5.2.2.5") or a key of proxy.toml ("[route.cache] min_ttl").
    """

    code: str
    text: str
    source: str
