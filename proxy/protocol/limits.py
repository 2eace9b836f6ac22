"""The bounds of a client connection."""

import msgspec


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a client connection; [limits] and [timeouts] of proxy.toml."""

    request_line_bytes: int = 8 * 1024
    header_bytes: int = 32 * 1024
    header_count: int = 100
    chunk_line_bytes: int = 4 * 1024
    trailer_bytes: int = 8 * 1024
    pipeline_bytes: int = 64 * 1024
    handshakes: int = 512
    handshake_timeout_s: float = 10.0
    header_timeout_s: float = 20.0
    body_timeout_s: float = 60.0
    keepalive_timeout_s: float = 75.0
    send_timeout_s: float = 60.0
    linger_timeout_s: float = 5.0
    worker_connections: int = 8192
