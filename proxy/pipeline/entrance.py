"""What a listener asks of its requests, or adds to its answers."""

import msgspec


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener asks of all its requests, or adds to all its answers.

    `https_port` is where requests over http are sent, 0 for nowhere; `hsts_line` is the encoded
    Strict-Transport-Security, b"" for none. `inside` is the private socket of a worker, on which
    the others ask.
    """

    https_port: int = 0
    hsts_line: bytes = b""
    inside: bool = False


OPEN = Entrance()
