"""Opens connections to upstream servers; says why when it cannot, and what to look at."""

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from proxy.errors import UpstreamError, UpstreamTimeoutError
from proxy.upstream.address import Address, TcpAddress, UnixAddress
from proxy.upstream.resolve import Resolver

# How often to knock at a unix socket whose backlog is full. Linux says so at once, where TCP would
# let the connection wait.
FULL_BACKLOG_S = 0.02

ADVICE = {
    errno.ECONNREFUSED: "nothing listens there; is it running?",
    errno.ENOENT: "there is no such socket; is it running, and is the path right?",
    errno.EACCES: "the user that proxyd runs as may not enter; check the socket's mode and folders",
    errno.ENOTSOCK: "that is not a socket; check the path",
    errno.EHOSTUNREACH: "no route to that host; check the address",
    errno.ENETUNREACH: "no route to that network; check the address",
    errno.EMFILE: "proxyd is out of file descriptors; raise the limit (ulimit -n)",
    errno.EADDRNOTAVAIL: "out of local ports, or a wrong address; check both",
}

# An asyncio protocol, but for the base, which compiled classes do not have.
ConnectionT = TypeVar("ConnectionT")


class Encryption(NamedTuple):
    """A context for TLS, and the name that the server's certificate must have."""

    context: ssl.SSLContext
    server_name: str


async def dial(
    name: str,
    address: Address,
    resolver: Resolver,
    factory: Callable[[], ConnectionT],
    timeout_s: float,
    encryption: Encryption | None = None,
) -> ConnectionT:
    """Connect to `address` within `timeout_s`, and give the connection to a new protocol.

    `name` begins the messages of UpstreamError and UpstreamTimeoutError.
    """
    try:
        async with asyncio.timeout(timeout_s):
            connection: ConnectionT
            if isinstance(address, UnixAddress):
                connection = await _dial_unix(address, factory, encryption)
            else:
                connection = await _dial_tcp(address, resolver, factory, timeout_s, encryption)
            return connection
    except TimeoutError:
        raise UpstreamTimeoutError(
            f"{name} did not accept a connection within {timeout_s:g} s; check the address and the"
            " firewall, or raise connect_timeout"
        ) from None
    except ssl.CertificateError as error:
        raise UpstreamError(
            f"{name} has a certificate that is not trusted: {error.verify_message}; check `ca` and"
            " `server_name` in its tls"
        ) from None
    except OSError as error:
        # A handshake that the server ends has no number: event loops drop its alert.
        if isinstance(error, ssl.SSLError) or (encryption is not None and not error.errno):
            cause = getattr(error, "reason", None) or str(error) or "it ended the handshake"
            raise UpstreamError(
                f"{name} could not agree on TLS: {cause}; does it speak TLS there, and does it want"
                " a client certificate?"
            ) from None
        advice = ADVICE.get(error.errno or 0, "check the address")
        raise UpstreamError(f"{name} cannot be reached: {reason(error)}; {advice}") from None


def reason(error: OSError) -> str:
    """Return the system's words for `error` alone; event loops write the address into them."""
    return error.strerror or str(error)


async def _dial_unix(
    address: UnixAddress, factory: Callable[[], Any], encryption: Encryption | None
) -> Any:
    loop = asyncio.get_running_loop()
    context, server_name = encryption or (None, None)
    while True:
        try:
            _, connection = await loop.create_unix_connection(
                factory, str(address.path), ssl=context, server_hostname=server_name
            )
        except BlockingIOError:
            await asyncio.sleep(FULL_BACKLOG_S)
        else:
            return connection


async def _dial_tcp(
    address: TcpAddress,
    resolver: Resolver,
    factory: Callable[[], Any],
    timeout_s: float,
    encryption: Encryption | None,
) -> Any:
    """Try one address of the name after the other; each has its share of the time.

    Both event loops set TCP_NODELAY on what they connect.
    """
    loop = asyncio.get_running_loop()
    context, server_name = encryption or (None, None)
    began_at = loop.time()
    hosts = await resolver.resolve(address.host)
    failure: OSError = TimeoutError()
    for left in range(len(hosts), 0, -1):
        share_s = (timeout_s - (loop.time() - began_at)) / left
        try:
            async with asyncio.timeout(share_s):
                _, connection = await loop.create_connection(
                    factory,
                    hosts[len(hosts) - left],
                    address.port,
                    ssl=context,
                    server_hostname=server_name,
                )
        except OSError as error:
            if isinstance(failure, TimeoutError):  # anything says more than silence
                failure = error
        else:
            return connection
    raise failure
