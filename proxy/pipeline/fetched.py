"""What is fetched, as one client gets it, and what another worker has put to it."""

from typing import TYPE_CHECKING, Final

from proxy.errors import HttpError
from proxy.message import FieldLine, Response, WireHead
from proxy.pipeline.client_fields import client_fields
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.receive import spooled
from proxy.rules import cache_status

if TYPE_CHECKING:
    from proxy.pipeline.site import Route

_OF_AN_ERROR: Final = frozenset((b"retry-after",))


def unrelayed(lines: list[FieldLine]) -> tuple[list[FieldLine], bytes]:
    """Take what another worker said in Cache-Status out of its answer: to clients we are one.

    It is empty when the answer is of that worker's own making.
    """
    existing = b", ".join([value for name, value in lines if name.lower() == b"cache-status"])
    rest, begin, member = existing.rpartition(cache_status.NAME + b"; ")
    if not begin:
        return lines, b""
    kept = [line for line in lines if line[0].lower() != b"cache-status"]
    if rest:
        kept.append((b"Cache-Status", rest.removesuffix(b", ")))
    return kept, begin + member


def own_error(response: Response) -> HttpError:
    """Return the failure that another worker's own error page tells of."""
    lines = [line for line in response.fields if line[0].lower() in _OF_AN_ERROR]
    error = HttpError("said by the worker that fetches it for all", tuple(lines))
    error.status = response.status
    return error


def drop(response: Response) -> None:
    """Let go of an answer that nobody gets."""
    if response.body is not None and not isinstance(response.body, bytes):
        response.body.cancel()


def cookies_of(response: Response) -> tuple[FieldLine, ...]:
    """Return what an answer sets for the client whose request it answers."""
    return tuple(line for line in response.fields if line[0].lower() == b"set-cookie")


def with_fields(
    exchange: Exchange, response: Response, member: bytes, *, spool: bool = False
) -> Response:
    """Return what the upstream said as one client gets it; its content waits for who is slow."""
    route = exchange.route
    body = response.body
    if spool and route is not None and body is not None and not isinstance(body, bytes):
        body = spooled(exchange.site, route, body)
    given = given_to(exchange, response, member)
    made = Response(
        response.status,
        given.lines,
        body,
        reason=response.reason,
        content_length=response.content_length,
        wire_head=given.wire_head,
    )
    made.dated = response.dated
    return made


class Given:
    """The head that clients of `route` get, or workers (`inside`), with `member` said."""

    __slots__ = ("inside", "lines", "member", "route", "wire_head")

    def __init__(
        self, route: "Route | None", lines: list[FieldLine], member: bytes, *, inside: bool
    ) -> None:
        self.route = route
        self.lines = lines
        self.member = member
        self.inside = inside
        self.wire_head = WireHead()


def given_to(exchange: Exchange, response: Response, member: bytes) -> Given:
    """Make the head for a client, or take the one that was made of the same head before."""
    route, same_head = exchange.route, response.same_head
    known = None if same_head is None else same_head.given
    if (
        isinstance(known, Given)
        and known.route is route
        and known.member == member
        and known.inside == exchange.inside
    ):
        return known
    lines = response.fields
    if route is not None:
        lines = client_fields(route, lines, member, inner=exchange.inside)
    made = Given(route, lines, member, inside=exchange.inside)
    if same_head is not None:
        same_head.given = made
    return made
