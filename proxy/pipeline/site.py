"""The compiled configuration: what a request holds from its beginning to its end.

Built by `compose` and never changed; a reload builds another one and swaps the reference.
"""

import re
from typing import TYPE_CHECKING

from proxy.clock import Clock
from proxy.pipeline.exchange import Step

if TYPE_CHECKING:
    from proxy.files.catalog import Catalog
    from proxy.message import FieldLine
    from proxy.observe.access_log import AccessLog
    from proxy.rules.forwarding import TrustedNetworks
    from proxy.upstream.group import Group


class Route:
    """One [[route]], compiled.

    `prefix` is the literal part of the path before "*", `exact` a path without one. `body_limit` in
    bytes, `buffer_response` in bytes (0 is off), `headers` are set on every answer.
    """

    __slots__ = (
        "body_limit",
        "buffer_request",
        "buffer_response",
        "catalog",
        "exact",
        "group",
        "headers",
        "host",
        "host_suffix",
        "name",
        "prefix",
        "send",
        "step",
        "strip_prefix",
        "try_files",
    )

    def __init__(self, name: str, step: Step) -> None:
        self.name = name
        self.step = step
        self.host = b""
        self.host_suffix = b""
        self.exact = b""
        self.prefix = b"/"
        self.headers: list[FieldLine] = []
        self.body_limit = 0
        self.buffer_request = True
        self.buffer_response = 0
        self.strip_prefix = b""
        self.catalog: Catalog | None = None
        self.try_files: tuple[str, ...] = ()
        self.group: Group | None = None
        self.send: re.Pattern[bytes] | None = None
