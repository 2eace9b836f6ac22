"""What a request asks of the cache: understood once, and kept with a request that is shared."""

from typing import Final, NamedTuple

from proxy.message import FieldLine, Fields, Request
from proxy.pipeline.exchange import Exchange
from proxy.rules import cache_status
from proxy.rules.cache_control import NOTHING_ASKED, RequestDirectives, parse_request
from proxy.rules.cache_key import (
    chosen_parts,
    counts_whole_query,
    key_query,
    key_start,
    primary_key,
    variant_key,
    with_path,
    without_ignored_cookies,
)
from proxy.rules.cache_rule import CacheRule
from proxy.rules.conditions import met
from proxy.rules.forwarding import Origin

# What a request says about the answer that its client holds, or the part that it wants: none of it
# is for the upstream when the whole answer is fetched for everybody.
OF_ONE_CLIENT: Final = frozenset(
    (
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
        b"range",
    )
)


class Slice(NamedTuple):
    """One slice of a large object, whose key is `whole_key`."""

    number: int
    slice_bytes: int
    whole_key: bytes


# Lists of Vary names for which is kept what the fields of a client come to; more take turns.
MOST_VARIANTS: Final = 8


class Asked:
    """What the field lines of a request ask of a cache with `rule`, whatever the request is for.

    Kept with the fields, which all requests of a client have in common. The keys of requests with
    that `scheme` and `authority` begin with `start`, and end with what the rule has `chosen`.
    """

    __slots__ = (
        "_fields",
        "_variants",
        "alone",
        "authority",
        "chosen",
        "directives",
        "of_one_client",
        "rule",
        "scheme",
        "start",
        "upgrade",
        "wants_part",
        "whole_query",
    )

    def __init__(self, fields: Fields, rule: CacheRule, scheme: bytes, authority: bytes) -> None:
        self.rule = rule
        self.scheme = scheme
        self.authority = authority
        self.start = key_start(scheme, authority, rule.key)
        self.directives: RequestDirectives = NOTHING_ASKED
        if b"request-cache-control" not in rule.ignore:
            self.directives = parse_request(fields.get(b"cache-control"), fields.get(b"pragma"))
        self.of_one_client = fields.has_any(OF_ONE_CLIENT)
        self.wants_part = b"range" in fields
        self.alone = (
            self.directives.no_store or b"if-match" in fields or b"if-unmodified-since" in fields
        )
        self.upgrade = b"upgrade" in fields
        self.chosen = chosen_parts(fields, rule.key)
        self.whole_query = counts_whole_query(rule.key)
        self._fields = fields
        self._variants: dict[tuple[bytes, ...], bytes] = {}

    def variant(self, names: tuple[bytes, ...]) -> bytes:
        """Return what the fields come to in those that a Vary names."""
        found = self._variants.get(names)
        if found is None:
            if len(self._variants) >= MOST_VARIANTS:
                self._variants.clear()
            found = self._variants[names] = variant_key(names, self._fields, self.rule)
        return found


def asked_by(request: Request, rule: CacheRule, scheme: bytes) -> Asked:
    """Return what its fields ask, as it was understood before or for the first time."""
    fields, authority = request.fields, request.authority
    known = fields.asked
    if (
        isinstance(known, Asked)
        and known.rule is rule
        and known.scheme == scheme
        and known.authority == authority
    ):
        return known
    made = Asked(fields, rule, scheme, authority)
    fields.asked = made
    return made


class Question:
    """A request as the cache sees it.

    `asked` are its directives. `plain` is a GET for all of an answer, whatever the client holds.
    `alone` is one that may be answered from the cache, but not fetched for others: its answer is
    not to be stored, or has a condition that only the origin evaluates (RFC 9111 §4.3.2). `part`
    is the slice that is asked for, if it is for one.
    `why` is empty, or why the request goes past the cache (`cache_status.METHOD` or BYPASS); a
    client that has shown a certificate is somebody, and no field says to whom else its answers go.
    `passes_until` belongs to the lookup step: until then what is not in memory is marked.
    """

    __slots__ = (
        "_by_fields",
        "alone",
        "asked",
        "certified",
        "key",
        "origin",
        "part",
        "passes_until",
        "plain",
        "rule",
        "scheme",
        "wants_part",
        "why",
    )

    def __init__(
        self,
        request: Request,
        rule: CacheRule,
        scheme: bytes,
        origin: Origin | None = None,
        *,
        certified: bool = False,
    ) -> None:
        self.rule = rule
        self.scheme = scheme
        self.origin = origin
        self.certified = certified
        known = self._by_fields = asked_by(request, rule, scheme)
        if origin is None and known.whole_query:
            self.key = with_path(known.start, request.path, request.query) + known.chosen
        else:
            self.key = primary_key(request, rule.key, scheme, origin)
        self.asked = known.directives
        self.plain = request.method == b"GET" and not known.of_one_client
        self.wants_part = known.wants_part
        self.alone = known.alone or bool(met(rule.no_store, request))
        self.part: Slice | None = None
        self.passes_until = 0.0
        self.why = b""
        if request.method not in {b"GET", b"HEAD"}:
            self.why = cache_status.METHOD
        elif certified or request.body is not None or known.upgrade or met(rule.bypass, request):
            self.why = cache_status.BYPASS

    def ask_for(self, part: Slice) -> None:
        """Let it be about one slice, as something of its own. The URL in the key is the same."""
        self.part = part
        self.key = b"%b slice:%d/%d" % (self.key, part.number, part.slice_bytes)
        self.passes_until = 0.0
        self.plain = True

    def variant(self, names: tuple[bytes, ...]) -> bytes:
        """Return what the request comes to in the fields that a Vary names; kept for the next."""
        return self._by_fields.variant(names)


def question_of(exchange: Exchange, rule: CacheRule) -> Question:
    """Return the question of this exchange, as it was understood before or for the first time."""
    request = exchange.request
    origin = exchange.origin
    scheme = exchange.peer.scheme if origin is None else origin.scheme
    certified = bool(exchange.peer.certificate)
    known = request.question
    if (
        isinstance(known, Question)
        and known.rule is rule
        and known.scheme == scheme
        and known.origin == origin
        and known.certified == certified
    ):
        return known
    question = Question(request, rule, scheme, origin, certified=certified)
    request.question = question
    return question


def fetching(request: Request, rule: CacheRule, conditions: list[FieldLine]) -> Request:
    """Return the request that is sent to fetch all of an answer, for whoever asks for it.

    `conditions` ask whether what is stored is still good. What the key leaves out is not sent: it
    cannot decide about an answer that others get, too.
    """
    fields = request.fields
    lines = without_ignored_cookies(fields, rule)
    if lines is not fields.lines or conditions or fields.has_any(OF_ONE_CLIENT):
        lines = [line for line in lines if line[0].lower() not in OF_ONE_CLIENT]
        fields = Fields([*lines, *conditions])
    fetch = Request(
        b"GET",
        request.target,
        request.minor_version,
        fields,
        request.path,
        key_query(request.query, rule.key),
        request.authority,
        request.host,
    )
    fetch.route_path = request.route_path
    return fetch
