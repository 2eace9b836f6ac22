"""HTTP messages as every layer sees them: fields, requests, responses, bodies.

Bytes from the wire stay bytes. Field names keep the spelling they came with (they are passed on
unchanged), and look-ups are by lower-case name. Nothing here does I/O.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final, Protocol

FieldLine = tuple[bytes, bytes]
NO_LENGTH: Final = -1


class Fields:
    """The field lines of one message, in the order in which they came.

    Treat as immutable: an index by lower-case name is built once. `get` returns the value of a
    lower-case name, several lines combined by RFC 9110 §5.3, or None. `written` belongs to the
    forward step, which keeps there what it wrote of them for an upstream; `asked` to the lookup
    step, which keeps there what they ask of a cache.
    """

    __slots__ = ("_index", "asked", "get", "lines", "written")

    def __init__(self, lines: Iterable[FieldLine] = ()) -> None:
        self.lines: list[FieldLine] = list(lines)
        self.written: object = None
        self.asked: object = None
        index = {name.lower(): value for name, value in self.lines}
        if len(index) < len(self.lines):
            index = combined(self.lines)
        self._index = index
        # As a method of ours it would cost every look-up a call more.
        self.get: Callable[[bytes], bytes | None] = index.get

    def get_all(self, name: bytes) -> list[bytes]:
        """Return the values of lower-case `name`, one for each line."""
        if name not in self._index:
            return []
        return [value for key, value in self.lines if key.lower() == name]

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Say whether there is a line with one of these lower-case names."""
        index = self._index
        if len(names) < len(index):  # isdisjoint looks at all that is there
            return any(name in index for name in names)
        return not names.isdisjoint(index)

    def __contains__(self, name: bytes) -> bool:
        return name in self._index

    def __iter__(self) -> Iterator[FieldLine]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self.lines == other.lines

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Fields({self.lines!r})"


def combined(lines: Iterable[FieldLine]) -> dict[bytes, bytes]:
    """Return the values by lower-case name, those of several lines in one. RFC 9110 §5.3."""
    index: dict[bytes, bytes] = {}
    for name, value in lines:
        key = name.lower()
        held = index.get(key)
        if held is None:
            index[key] = value
        else:
            index[key] = held + (b"; " if key == b"cookie" else b", ") + value
    return index


class Consumer(Protocol):
    """Where a body goes; calls come in order, and end with one of the last two."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes; `data` is never empty."""

    def finish(self, trailers: Fields | None) -> None:
        """Learn that the body is complete."""

    def abort(self, error: Exception) -> None:
        """Learn that the body will not be completed."""


# What `send_file` returns when it cannot send from files, or not from this one.
NO_FILES: Final = -1


class FileConsumer(Consumer, Protocol):
    """A consumer that may take bytes straight from a file; a source looks whether it has this."""

    def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Take bytes of an open file without a copy, in the place of `feed`; returns how many.

        It may take less than `count` and pause the source. 0: it has paused the source, or the file
        ends before `offset`. NO_FILES: use `feed`.
        """


class Source(Protocol):
    """Where a body comes from: pushes into one consumer, which may hold it back.

    `length` is in bytes, None while unknown.
    """

    length: int | None

    def start(self, consumer: Consumer) -> None:
        """Begin to push; may call the consumer before it returns."""

    def pause(self) -> None:
        """Push nothing until `resume`; what is under way may still come (bounded by one read)."""

    def resume(self) -> None:
        """Go on after `pause`."""

    def cancel(self) -> None:
        """Give up and release everything; the consumer is not called any more."""


class RequestBody(Protocol):
    """The content of a request, while it arrives and afterwards.

    `complete` is True once all of it is here; `length` in bytes is then known. `limit_bytes` is
    set by the route before anybody reads; `received` bytes have come. Iterating gives the content
    as it comes, or again from the start when it was collected.
    """

    complete: bool
    length: int | None
    limit_bytes: int
    received: int

    @property
    def trailers(self) -> Fields:
        """The trailer fields, once it is complete. RFC 9110 §6.5."""

    async def collect(self) -> None:
        """Take all of it from the client: into memory, then into a file.

        Raises ContentTooLargeError, BadRequestError, RequestTimeoutError.
        """

    def in_memory(self) -> bytes | None:
        """Return the whole content when it is complete and small, else None."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None:
        """Release what holds it."""


class Request:
    """One request as it was understood, after framing and target were found valid.

    `target` is as received; `path` is normalised (RFC 3986 §6.2.2: dot segments gone, unreserved
    octets decoded, the rest of the escapes upper-case) and is what upstreams get; `route_path` has
    every escape decoded, and is what routes match. Both are b"*" for `OPTIONS *`. `query` is
    without its "?", None when there was none.
    `authority` is host[:port] in lower case as the client named it, b"" when an HTTP/1.0 client
    named none; `host` is the same without the port. `persistent` says that the client wants the
    connection kept. Without a `body` it may be shared by many exchanges. `question` belongs
    to the lookup step, `routed` to the one that chooses the route.
    """

    __slots__ = (
        "authority",
        "body",
        "fields",
        "host",
        "method",
        "minor_version",
        "path",
        "persistent",
        "query",
        "question",
        "route_path",
        "routed",
        "target",
    )

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        method: bytes,
        target: bytes,
        minor_version: int,
        fields: Fields,
        path: bytes,
        query: bytes | None,
        authority: bytes,
        host: bytes,
        persistent: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.minor_version = minor_version
        self.fields = fields
        self.path = path
        self.route_path = path
        self.question: object = None
        self.routed: object = None
        self.query = query
        self.authority = authority
        self.host = host
        self.persistent = persistent
        self.body: RequestBody | None = None


class SteadyHead:
    """What the heads of several responses begin with: the same status and length, and `lines`.

    `encoded` belongs to the wire protocol.
    """

    __slots__ = ("encoded", "lines")

    def __init__(self, lines: list[FieldLine]) -> None:
        self.lines = lines
        self.encoded: bytes | None = None


class WireHead:
    """What a wire protocol has made of a response's head; see `Response`.

    With a `steady` head, the response's fields begin with the lines of that.
    """

    __slots__ = ("encoded", "steady")

    def __init__(self, steady: SteadyHead | None = None) -> None:
        self.encoded: bytes | None = None
        self.steady = steady


class SameHead:
    """What was worked out once for all responses that an upstream gives the same head.

    `understood` belongs to `pipeline.store`, `given` to `pipeline.fetched`.
    """

    __slots__ = ("given", "understood")

    def __init__(self) -> None:
        self.understood: object = None
        self.given: object = None


class Response:
    """One final response; may be shared by many exchanges when its body is bytes or None.

    `fields` are end-to-end fields only: no Server, Connection, Transfer-Encoding, Content-Length
    (the wire protocol writes these, and Date). `content_length` is what Content-Length says when
    that is not the length of `body`: for HEAD and 304 (NO_LENGTH: nothing). `dated` says that
    `fields` hold the origin's Date, which is kept. `wire_head` belongs to the wire protocol, which
    keeps its encoded head there; responses share one when they differ in their bodies' bytes only.
    So do responses with a `same_head`, as they came from the upstream.
    """

    __slots__ = (
        "body",
        "content_length",
        "dated",
        "fields",
        "reason",
        "same_head",
        "status",
        "wire_head",
    )

    def __init__(
        self,
        status: int,
        fields: list[FieldLine],
        body: "bytes | Source | None" = None,
        *,
        content_length: int | None = None,
        reason: bytes = b"",
        wire_head: WireHead | None = None,
    ) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.content_length = content_length
        self.reason = reason
        self.dated = False
        self.wire_head = wire_head or WireHead()
        self.same_head: SameHead | None = None
