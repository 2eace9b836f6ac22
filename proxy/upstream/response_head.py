"""A response head, from bytes to what it says and where its body ends.

Servers repeat themselves: but for Date, which changes once a second, the answers of one server to
one question have the same head. So heads are remembered by their bytes, in a table that is emptied
when it is full, as those of requests are (`protocol.http1_head`).
"""

from typing import Final

from proxy.message import Fields
from proxy.rules.framing import response_framing
from proxy.rules.heads import parse_response_head

# 1024 heads of at most 2 KiB, and what was made of them: 20 MiB of a worker at the very most.
REMEMBERED: Final = 1024
REMEMBERED_BYTES: Final = 2048


class ReadHead:
    """What a response head says; `length` is that of the body as in `response_framing`.

    `passed_on` belongs to the receive step, which keeps there what it made of a head.
    """

    __slots__ = ("fields", "length", "minor_version", "passed_on", "reason", "status")

    def __init__(
        self, minor_version: int, status: int, reason: bytes, fields: Fields, length: int
    ) -> None:
        self.minor_version = minor_version
        self.status = status
        self.reason = reason
        self.fields = fields
        self.length = length
        self.passed_on: object = None


_remembered: Final[dict[bytes, ReadHead]] = {}


def read_head(head: bytes, method: bytes) -> ReadHead:
    """Read a whole response head, which answers a request with `method`.

    Raises BadRequestError; a NotImplementedMethodError for a coding other than chunked.
    """
    known = _remembered.get(head) if method != b"HEAD" else None
    if known is not None:
        return known
    minor, status, reason, fields = parse_response_head(head)
    read = ReadHead(minor, status, reason, fields, response_framing(method, status, minor, fields))
    if method != b"HEAD" and len(head) <= REMEMBERED_BYTES:
        if len(_remembered) >= REMEMBERED:
            _remembered.clear()
        _remembered[head] = read
    return read
