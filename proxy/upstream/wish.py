"""What one request wants of a group with several servers: by its hash, by its cookie.

The cookie of a sticky group names a server by a value that says nothing about its address.
"""

from collections.abc import Callable
from typing import Final, final

from proxy.message import Request
from proxy.rules.cookies import parse_cookies
from proxy.upstream.server import Balance

NOBODY: Final = -1

ReadKey = Callable[[Request, str], bytes]


@final
class Wish:
    """The key of a hash, the server that the cookie names (NOBODY), and what has come of it.

    `failed` are the servers that have failed this request, `retries` counts how often; `stale` says
    that an idle connection of a managed server has. `rests` says that the only server there is has
    just failed it. `secure` says that the cookie goes over https; `named` whether the answer may
    set it.
    """

    __slots__ = ("failed", "key", "named", "rests", "retries", "secure", "server", "stale")

    def __init__(
        self, key: bytes = b"", server: int = NOBODY, *, secure: bool = False, named: bool = False
    ) -> None:
        self.key = key
        self.server = server
        self.secure = secure
        self.named = named
        self.retries = 0
        self.stale = False
        self.rests = False
        self.failed: set[int] = set()


def key_reader(balance: Balance) -> ReadKey:
    """Return what reads the key of a request, which is the client's address where it has none."""
    name = balance.name.encode()
    lower = name.lower()

    def path(request: Request, _client: str) -> bytes:
        return request.path

    def address(_request: Request, client: str) -> bytes:
        return client.encode()

    def header(request: Request, client: str) -> bytes:
        return request.fields.get(lower) or client.encode()

    def cookie(request: Request, client: str) -> bytes:
        return cookie_value(request, name) or client.encode()

    return {"path": path, "header": header, "cookie": cookie}.get(balance.source, address)


def cookie_value(request: Request, name: bytes) -> bytes:
    """Return the value of the first cookie of that name, b"" without one."""
    for key, value in parse_cookies(request.fields.get(b"cookie")):
        if key == name:
            return value
    return b""


def sticky_field(name: bytes, value: bytes, *, secure: bool) -> bytes:
    """Return the Set-Cookie that leads a client to its server until its browser ends. RFC 6265.

    Scripts cannot read it, and other sites cannot make a browser send it with a form.
    """
    end = b"; Secure" if secure else b""
    return b"%b=%b; Path=/; HttpOnly; SameSite=Lax%b" % (name, value, end)
