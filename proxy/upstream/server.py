"""One server of a group, as it is configured, and the ways to choose among several."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from proxy.upstream.address import Address


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where it is, its share, and whether it is only for when all others are down.

    `max_connections` is the group's when None.
    """

    address: Address
    weight: int = 1
    backup: bool = False
    max_connections: int | None = None

    def __str__(self) -> str:
        return str(self.address)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How a group chooses; `source` is what a hash is taken of, `name` which header or cookie."""

    kind: Literal["round_robin", "least_conn", "random_two", "hash"] = "round_robin"
    source: Literal["", "path", "address", "header", "cookie"] = ""
    name: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    """How a group speaks TLS to its servers; without `ca_file`, the system's authorities count.

    `server_name` is the name in SNI and in the certificate, by default the host of the address.
    """

    ca_file: Path | None = None
    server_name: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True
