"""Who may ask the control process: no web page, and on TCP only who has the token.

A browser that somebody's page has taken over sends requests here as from this machine. What gives
it away is looked at in every request, whatever its method: `Host` (a page whose own name points
here: DNS rebinding), `Origin` and `Sec-Fetch-Site`. What changes something needs a field besides,
which no page can send elsewhere without asking first (CORS), and asking is answered with 403.
"""

import hmac
import ipaddress
from typing import Final

from aiohttp import web

from proxy.config.schema import Config
from proxy.upstream.address import TcpAddress

FIELD: Final = "Proxyd-Control"
SAFE: Final = frozenset(("GET", "HEAD"))
# Where a person typed the address, or a page of our own asks.
OWN_SITES: Final = frozenset(("none", "same-origin"))


class Guard:
    """Lets a request in, or says why not."""

    def __init__(self, config: Config, token: str) -> None:
        address = config.control.address
        self._on_tcp = isinstance(address, TcpAddress)
        self._hosts = {"localhost", *config.control.hosts}
        if isinstance(address, TcpAddress):
            self._hosts.add(address.host)
        self._token = token.encode()

    def check(self, request: web.Request) -> None:
        """Raise an HTTPException for whoever may not ask."""
        host = request.headers.get("Host", "")
        if self._on_tcp and not self._is_ours(host):
            raise refusal(
                web.HTTPMisdirectedRequest,
                f"the host {host!r} is not known here; add it to `hosts` of [control]",
            )
        site = request.headers.get("Sec-Fetch-Site", "none")
        origin = request.headers.get("Origin")
        if site not in OWN_SITES or (origin is not None and origin != f"http://{host}"):
            raise refusal(web.HTTPForbidden, "no other site's page may ask here")
        if self._token and not self._has_token(request):
            error = refusal(
                web.HTTPUnauthorized,
                "send the token of [control]: `Authorization: Bearer TOKEN`",
            )
            error.headers["WWW-Authenticate"] = 'Bearer realm="proxyd"'
            raise error
        if request.method not in SAFE and FIELD not in request.headers:
            raise refusal(
                web.HTTPForbidden,
                f"what changes something needs the field `{FIELD}: 1`, which no web page can send",
            )

    def _is_ours(self, host: str) -> bool:
        """Whether Host names this machine; an IP address is nobody's name."""
        name, _, port = host.rpartition(":")
        if not name or not port.isdigit():
            name = host
        name = name.lower().removeprefix("[").removesuffix("]")
        if name.removesuffix(".") in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _has_token(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        given_bytes = given.strip().encode("utf-8", "surrogateescape")
        # Compared in any case, and in a time that does not tell how much of it was right.
        return hmac.compare_digest(given_bytes, self._token) and scheme.lower() == "bearer"


def refusal(kind: type[web.HTTPException], text: str) -> web.HTTPException:
    """Return an error that the answer is made of."""
    return kind(text=text)
