"""The chunked transfer coding, both ways. RFC 9112 §7.1.

Pure: bytes in, bytes out. Written here because httptools tells neither where a message ends nor
how long a chunk line was. Strict, since a size that two parsers read differently is how requests
are smuggled.

    LINE ──size > 0──→ DATA ──all of it──→ DATA_END ──CRLF──→ LINE
      └───size = 0──→ TRAILERS ──empty line──→ the end
"""

import re
from typing import Final

from proxy.errors import BadRequestError
from proxy.message import Fields
from proxy.rules.heads import IMPOSSIBLE, parse_fields

# Per body. Node took any amount of extensions around one-byte chunks before CVE-2024-22019, and
# has allowed 16 KiB since.
EXTENSION_BYTES: Final = 16 * 1024

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TEXT: Final = rb"[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]*+"
_QUOTED: Final = rb'"%b(?:\\[\t \x21-\x7e\x80-\xff]%b)*"' % (_TEXT, _TEXT)
_BWS: Final = rb"[ \t]*+"
_EXTENSION: Final = rb"%b;%b%b(?:%b=%b(?:%b|%b))?" % (
    _BWS,
    _BWS,
    _TOKEN,
    _BWS,
    _BWS,
    _TOKEN,
    _QUOTED,
)
# 16 digits are 64 bits.
_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*\r\n" % _EXTENSION)
_PLAIN_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_LINE_BEGIN: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?:[\t ;\r]|\Z)")

# What must not change after the content was judged: framing, routing, request modifiers,
# authentication, what the content is (RFC 9110 §6.5.1), and what proxyd says of the client (with
# all of X-Forwarded-*).
FORBIDDEN_TRAILERS: Final = frozenset(
    b"""
    age authorization cache-control connection content-encoding content-length content-location
    content-range content-type cookie date expect expires forwarded host http2-settings if-match
    if-modified-since if-none-match if-range if-unmodified-since keep-alive location max-forwards
    pragma proxy proxy-authenticate proxy-authentication-info proxy-authorization proxy-connection
    range retry-after set-cookie te trailer transfer-encoding upgrade vary via www-authenticate
    x-real-ip x-request-id
    """.split()
)

_LINE_STATE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3


class ChunkedDecoder:
    """Takes one chunked body as it comes, in pieces of any size.

    The limits count line ends. `trailers` are the trailer fields that may be believed, once the
    end of the body has come.
    """

    __slots__ = (
        "_extension_bytes",
        "_held",
        "_max_line_bytes",
        "_max_trailer_bytes",
        "_missing",
        "_state",
        "trailers",
    )

    def __init__(self, max_line_bytes: int, max_trailer_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_trailer_bytes = max_trailer_bytes
        self._state = _LINE_STATE
        self._missing = 0  # bytes of this chunk's data that are still to come
        self._held = bytearray()  # the beginning of a line, of a line's end or of trailers
        self._extension_bytes = 0
        self.trailers = Fields()

    def decode(self, data: bytes) -> tuple[list[bytes], bytes | None]:
        """Return the pieces of content in `data`, and what is behind the end of the body.

        No piece is empty. The second is None until the end has come, after which there must be no
        other call. Raises BadRequestError.
        """
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            state = self._state
            if state == _DATA:
                stop = at + self._missing
                pieces.append(data[at:stop])
                if stop > end:
                    self._missing = stop - end
                    break
                at = stop
                self._state = _DATA_END
            elif state == _DATA_END:
                at = self._end_data(data, at)
            elif state == _LINE_STATE:
                if not self._held:
                    at = self._take_whole_chunks(data, at, pieces)
                if at < end:
                    at = self._take_line(data, at)
            else:
                return pieces, self._take_trailers(data, at)
        return pieces, None

    def _take_whole_chunks(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take chunks that are all here, without extensions; return the position behind them.

        Who sends many tiny chunks shall not hold the loop for long.
        """
        match = _PLAIN_LINE.match(data, at)
        while match is not None:
            begin = match.end()
            stop = begin + int(match[1], 16)
            if stop == begin or data[stop : stop + 2] != b"\r\n":
                break
            pieces.append(data[begin:stop])
            at = stop + 2
            match = _PLAIN_LINE.match(data, at)
        return at

    def _end_data(self, data: bytes, at: int) -> int:
        """Take the CRLF behind a chunk's data; return the position behind what was taken."""
        if not self._held and data.startswith(b"\r\n", at):
            self._state = _LINE_STATE
            return at + 2
        self._held += data[at : at + 1]
        if self._held == b"\r\n":
            self._held.clear()
            self._state = _LINE_STATE
        elif self._held != b"\r":
            raise BadRequestError("a chunk is longer than its size")
        return at + 1

    def _take_line(self, data: bytes, at: int) -> int:
        """Take a chunk's line, or the beginning of one; return the position behind it."""
        held = self._held
        newline = data.find(b"\n", at, at + self._max_line_bytes)
        stop = newline + 1 if newline >= 0 else len(data)
        if len(held) + stop - at > self._max_line_bytes:
            raise BadRequestError(f"a chunk line of over {self._max_line_bytes} bytes")
        if newline < 0:
            held += data[at:]
            _check_unfinished(held, len(held) - (stop - at))
            if _LINE_BEGIN.match(held) is None:
                raise BadRequestError(f"malformed chunk size: {bytes(held[:64])!r}")
            return stop
        line = data[at:stop]
        if held:
            line = bytes(held + line)
            held.clear()
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadRequestError(f"malformed chunk line: {line[:64]!r}")
        digits = match[1]
        self._extension_bytes += len(line) - len(digits) - 2
        if self._extension_bytes > EXTENSION_BYTES:
            raise BadRequestError(f"chunk extensions of over {EXTENSION_BYTES} bytes in one body")
        self._missing = int(digits, 16)
        self._state = _DATA if self._missing else _TRAILERS
        return stop

    def _take_trailers(self, data: bytes, at: int) -> bytes | None:
        """Take the trailer section; return what is behind it, None while it is not complete."""
        held = self._held
        known = len(held)
        held += data[at:]
        if held.startswith(b"\r\n"):
            stop = 2
        else:
            stop = held.find(b"\r\n\r\n", max(known - 3, 0)) + 4
            if stop < 4:
                stop = 0
        if (stop or len(held)) > self._max_trailer_bytes:
            raise BadRequestError(f"trailers of over {self._max_trailer_bytes} bytes")
        if not stop:
            _check_unfinished(held, known)
            return None
        if stop > 2:
            fields = parse_fields(bytes(held[:stop]))
            self.trailers = Fields(line for line in fields.lines if _may_trail(line[0]))
        return bytes(held[stop:])


def _may_trail(name: bytes) -> bool:
    """Whether a trailer field is passed on; "_" counts as "-", which WSGI makes the same."""
    key = name.lower().replace(b"_", b"-")
    return key not in FORBIDDEN_TRAILERS and not key.startswith(b"x-forwarded-")


def encode_chunk(data: bytes) -> bytes:
    """Return one chunk; `data` is not empty, since an empty chunk is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Fields | None) -> bytes:
    """Return the end of a chunked body with its trailer section. RFC 9112 §7.1.2."""
    if not trailers:
        return b"0\r\n\r\n"
    lines = [b"%b: %b\r\n" % line for line in trailers]
    return b"0\r\n%b\r\n" % b"".join(lines)


def _check_unfinished(held: bytearray, start: int) -> None:
    """Refuse at once what no further byte can make right, so that nobody waits for it.

    The bytes before `start` were checked already.
    """
    found = IMPOSSIBLE.search(held, max(start - 1, 0))
    if found is not None:
        raise BadRequestError(f"a byte that no chunk line or trailer contains: {found.group()!r}")
