"""What an application says when it leaves it to proxyd to send a file. Pure.

X-Sendfile names a file of the machine (Apache's mod_xsendfile, lighttpd, Flask), X-Accel-Redirect
a path that is mapped to one (nginx, Django, Rails). Neither is for clients.
"""

from urllib.parse import quote_from_bytes

from proxy.errors import BadRequestError
from proxy.message import FieldLine
from proxy.rules.server_timing import PRIVATE
from proxy.rules.target import normalise_path

FILE_FIELDS = frozenset((b"x-sendfile", b"x-accel-redirect"))
# What an application says to the server in front of it; nginx keeps all of these to itself.
TO_PROXYD = FILE_FIELDS | {
    b"x-accel-buffering",
    b"x-accel-charset",
    b"x-accel-expires",
    b"x-accel-limit-rate",
    PRIVATE.lower(),
}

# What an application says of content that is not sent. Its validators are among them: they may be
# those of an empty body (Django's ConditionalGetMiddleware), and nginx drops them as well.
_OF_THE_CONTENT = frozenset(
    b"""
    accept-ranges content-digest content-encoding content-length content-md5 content-range etag
    last-modified repr-digest
    """.split()
)
_FRESHNESS = frozenset((b"cache-control", b"expires"))
_PRINTABLE = bytes(range(0x21, 0x7F)).decode()


def below(path: bytes, folders: tuple[bytes, ...]) -> bytes | None:
    """Return the part of an absolute file name behind the folder it is in, percent-encoded.

    None when it is in none of the `folders`, which end with a slash. What the rest may contain is
    for those to judge who open it.
    """
    for folder in folders:
        if path.startswith(folder):
            return quote_from_bytes(path[len(folder) :], safe="/").encode()
    return None


def redirected(value: bytes) -> bytes | None:
    """Return the normalised path of an X-Accel-Redirect, None when it is none.

    Bytes that a target would have escaped are taken as they are, as nginx does; a query is ignored.
    """
    path = quote_from_bytes(value.partition(b"?")[0], safe=_PRINTABLE).encode()
    if not path.startswith(b"/"):
        return None
    try:
        return normalise_path(path)
    except BadRequestError:
        return None


def file_fields(said: list[FieldLine], of_file: list[FieldLine]) -> list[FieldLine]:
    """Return the field lines of the file's answer: what the application said, then the file's own.

    Of Content-Type and Cache-Control the application's count, if there are any. RFC 9110 §8.
    """
    lines = [line for line in said if line[0].lower() not in _OF_THE_CONTENT]
    given = {name.lower() for name, _ in lines}
    if given & _FRESHNESS:
        given |= _FRESHNESS
    lines += [line for line in of_file if line[0].lower() not in given]
    return lines


def not_modified_fields(lines: list[FieldLine]) -> list[FieldLine]:
    """Return those that a 304 has. RFC 9110 §15.4.5."""
    return [
        line
        for line in lines
        if not line[0].lower().startswith(b"content-") or line[0].lower() == b"content-location"
    ]
