"""[control]: where operators and programs ask about proxyd, and who they must be."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import (
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from proxy.config.kinds import FilePath, Table, read_listen_address
from proxy.config.values import parse_route_host
from proxy.upstream.address import Address, TcpAddress, UnixAddress

OFF = "off"
# In the state folder, as long as no address is written.
SOCKET = "control.sock"
# What RFC 6750 §2.1 lets stand behind "Bearer", of a length that nobody guesses.
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,4096}")
HOW_TO_MAKE_ONE = "`openssl rand -hex 32` prints one"


def read_control_address(value: object, info: ValidationInfo) -> Address | str:
    """Return where to listen, or "off"."""
    return OFF if value == OFF else read_listen_address(value, info)


def parse_token(text: str) -> str:
    """Check a token; raises ValueError, which does not repeat it."""
    if not TOKEN.fullmatch(text):
        raise ValueError(
            "must have at least 16 letters, digits and signs of . _ ~ + / = - and nothing else;"
            f" {HOW_TO_MAKE_ONE}"
        )
    return text


def read_token(value: object) -> str:
    """Return a token."""
    return parse_token(value if isinstance(value, str) else "")


ControlAddress = Annotated[
    Address | str,
    PlainValidator(read_control_address),
    WithJsonSchema({"type": "string", "pattern": r"^off$|^unix:.+$|^.+:[0-9]{1,5}$"}),
]
Token = Annotated[
    str,
    PlainValidator(read_token),
    WithJsonSchema({"type": "string", "pattern": f"^{TOKEN.pattern}$"}),
]


class Control(Table):
    """Health, metrics and the admin API, answered by a process of their own.

    On a unix socket, whoever may open the file may do everything: without an address, who started
    proxyd, and root. On TCP everybody needs the token, for health and metrics as well.
    """

    address: ControlAddress | None = None
    """"unix:path", "host:port", or "off" for none. Without it, "unix:" and `control.sock` in
    `state_dir`, with mode 0600. Precedent: Caddy `admin localhost:2019`, HAProxy `stats socket`."""

    token: Token | None = None
    """What clients send as `Authorization: Bearer …`; needed on TCP. Danger: who can read
    proxy.toml has it; `token_file` may be readable by root alone."""

    token_file: FilePath | None = None
    """The file with the token, read when proxyd starts or reloads, as the user who started it.
    Precedent: Prometheus `credentials_file`."""

    hosts: tuple[str, ...] = ()
    """On TCP, the names by which this machine is asked, besides IP addresses, "localhost" and the
    host of `address`. Another name in Host is refused, so that no web page can reach the API by
    letting its own name point here. Precedent: Django `ALLOWED_HOSTS`, Caddy `admin.origins`."""

    @field_validator("hosts")
    @classmethod
    def _read_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(parse_route_host(host) for host in hosts)

    @model_validator(mode="after")
    def _is_guarded(self) -> "Control":
        if self.token is not None and self.token_file is not None:
            raise ValueError("has `token` and `token_file`; one of them is enough")
        if isinstance(self.address, TcpAddress) and self.token is None and self.token_file is None:
            raise ValueError(
                f"listens on {self.address}, which needs a `token` or a `token_file`"
                f' ({HOW_TO_MAKE_ONE}); a "unix:" address is guarded by its file\'s mode'
            )
        return self

    def listens_on(self, state_dir: Path) -> Address | None:
        """Return the address, None for none."""
        if isinstance(self.address, str):
            return None
        return self.address or UnixAddress(state_dir / SOCKET)
