"""One file as it is answered with: its representations, and for each the finished responses.

Everything that a request can be spared is done here, once for each version of a file. Pure: the
contents come in, and the time as `now`.
"""

import re
from hashlib import blake2b

from proxy.files.disk import LocatedFile, Version
from proxy.files.media_types import content_type
from proxy.files.options import CatalogOptions
from proxy.message import FieldLine, Response
from proxy.rules.dates import format_date
from proxy.rules.negotiation import IDENTITY

# What build tools put before the last extensions: eight or more hexadecimal digits (webpack,
# Django, Parcel), or eight or more of base62 with a lower and an upper case letter and a digit that
# is not at the end (Vite, Rollup). Both need a letter and a digit, so that report-20240101.pdf and
# chart-version2.js are not kept for a year; a fingerprint that is missed costs a 304 now and then.
FINGERPRINT = re.compile(
    r".[.-](?:(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}"
    r"|(?=\w*[0-9][A-Za-z])(?=\w*[a-z])(?=\w*[A-Z])[0-9A-Za-z_]{8,})"
    r"(?:\.[a-z0-9]+){1,3}$",
    re.ASCII,
)
IMMUTABLE = "public, max-age=31536000, immutable"

# What an asset costs besides its content: objects, fields and the table's entry, as measured.
OVERHEAD_BYTES = 4096


class Representation:
    """One coding of a file. `body` is None when it is streamed from `segments`.

    `whole` (None for a streamed one), `head` and `not_modified` are shared by all requests.
    `last_modified` is in seconds since the epoch, `content_type` is for the heads of parts.
    """

    __slots__ = (
        "body",
        "coding",
        "content_type",
        "etag",
        "fields",
        "head",
        "last_modified",
        "length",
        "not_modified",
        "segments",
        "version",
        "whole",
    )

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        coding: bytes,
        segments: tuple[bytes, ...],
        version: Version,
        body: bytes | None,
        last_modified: int,
        shared: list[FieldLine],
        kind: bytes,
        headers: tuple[FieldLine, ...],
    ) -> None:
        self.coding = coding
        self.segments = segments
        self.version = version
        self.body = body
        self.length = version.size if body is None else len(body)
        self.last_modified = last_modified
        self.content_type = kind
        self.etag = _etag(coding, version, body)
        described: list[FieldLine] = [(b"Content-Type", kind)]
        if coding != IDENTITY:
            described.append((b"Content-Encoding", coding))
        described += [
            (b"ETag", self.etag),
            (b"Last-Modified", format_date(last_modified)),
            (b"Accept-Ranges", b"bytes"),
            *shared,
        ]
        self.fields = with_headers(described, headers)
        self.whole = None if body is None else Response(200, self.fields, body)
        self.head = Response(200, self.fields, content_length=self.length)
        # RFC 9110 §15.4.5: what guides caches, and no more.
        unchanged = with_headers([(b"ETag", self.etag), *shared], headers)
        self.not_modified = Response(304, unchanged)


class Asset:
    """A file's representations, and when they were last compared with the disk.

    `codings` are those other than identity, best first. `checked_at` is on the monotonic clock;
    `settled` is False when the file had just changed as it was read: another change within the
    clock tick of the file system would not show in `versions`.
    """

    __slots__ = (
        "checked_at",
        "codings",
        "key",
        "representations",
        "settled",
        "size_bytes",
        "versions",
    )

    def __init__(
        self,
        key: bytes,
        versions: dict[bytes, Version],
        representations: dict[bytes, Representation],
        *,
        settled: bool,
        checked_at: float,
    ) -> None:
        self.key = key
        self.versions = versions
        self.representations = representations
        self.codings = tuple(coding for coding in representations if coding != IDENTITY)
        self.settled = settled
        self.checked_at = checked_at
        self.size_bytes = OVERHEAD_BYTES + sum(
            len(representation.body or b"") for representation in representations.values()
        )


def represent(
    found: LocatedFile, contents: dict[bytes, bytes | None], options: CatalogOptions, now: float
) -> dict[bytes, Representation]:
    """Build the representations of a file for each coding in `contents`, in their order.

    None as content means streamed. `now` is in seconds since the epoch: Last-Modified never lies
    ahead of it (RFC 9110 §8.8.2.1).
    """
    name = found.segments[-1].decode("utf-8", "replace")
    kind = content_type(name, options.charset).encode()
    shared: list[FieldLine] = []
    if len(contents) > 1:
        shared.append((b"Vary", b"Accept-Encoding"))
    cache_control = cache_control_for(name, options)
    if cache_control:
        shared.append((b"Cache-Control", cache_control.encode()))
    versions = found.versions()
    original = versions[IDENTITY]
    last_modified = min(original.modified_ns // 10**9, int(now))
    return {
        coding: Representation(
            coding,
            found.path_of(coding),
            versions.get(coding, original),
            body,
            last_modified,
            shared,
            kind,
            options.headers,
        )
        for coding, body in contents.items()
    }


def cache_control_for(name: str, options: CatalogOptions) -> str:
    """Return the Cache-Control of a file by its name, empty for none."""
    if options.immutable and FINGERPRINT.search(name):
        return IMMUTABLE
    return options.cache_control


def with_headers(fields: list[FieldLine], headers: tuple[FieldLine, ...]) -> list[FieldLine]:
    """Set the configured `headers`, in the place of ours with the same names.

    Vary is added to: without ours, a cache would hand brotli to those who cannot read it.
    """
    names = {name.lower() for name, _ in headers} - {b"vary"}
    return [line for line in fields if line[0].lower() not in names] + list(headers)


def _etag(coding: bytes, version: Version, body: bytes | None) -> bytes:
    """Make a strong validator, different for each representation. RFC 9110 §8.8.3.

    What is in memory is named by its content, so that it stays the same on every server and after
    every deployment; what is streamed by time and size, as nginx does, to the nanosecond.
    """
    if body is None:
        opaque = f"{version.modified_ns:x}-{version.size:x}"
    else:
        opaque = blake2b(body, digest_size=12).hexdigest()
    suffix = "" if coding == IDENTITY else f"-{coding.decode()}"
    return f'"{opaque}{suffix}"'.encode()
