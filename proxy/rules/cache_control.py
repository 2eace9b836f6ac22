"""Cache-Control: what an answer and a request say to caches. RFC 9111 §5.2, §5.4.

Pure, but for a bounded memory of what was read last, and never an error. What is malformed is read
the strict way, in which it can only shorten the life of an answer or keep it out of the store: its
restrictive words count, the permissive ones do not, and a number that is none is 0. Of two that
differ the more restrictive holds (§4.2.1).
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import inf
from typing import NamedTuple

import msgspec

# Field values whose meaning is kept, so many and so long at the most.
REMEMBERED = 512
REMEMBERED_BYTES = 256

# What a delta-seconds that is too large stands for; about 68 years. RFC 9111 §1.2.2.
FOREVER_S = 2**31

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
TOKEN = re.compile(_TOKEN)
# One element of the list, which may be empty (name, argument), or else what is none, up to a comma
# or from a quote that is not closed. Written so that every run has one reading, and takes no longer
# than its length. (No possessive quantifiers: those of Python 3.11.2 misread groups.)
ELEMENT = re.compile(
    rb"[ \t]*(?:(" + _TOKEN + rb")(?:=(" + _TOKEN + rb"|" + _QUOTED + rb"))?[ \t]*)?(?:,|\Z)"
    rb'|([^",]*(?:' + _QUOTED + rb'[^",]*)*(?:,|\Z|".*))',
    re.DOTALL,
)
QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)

# Which directives have which kind of argument; `rules.targeted` maps its types by them.
WITH_SECONDS = frozenset((b"max-age", b"s-maxage", b"stale-while-revalidate", b"stale-if-error"))
WITH_FIELD_NAMES = frozenset((b"no-cache", b"private"))
_RESTRICTIVE = frozenset((b"no-store", b"must-revalidate", b"proxy-revalidate", b"no-transform"))
_PERMISSIVE = frozenset((b"public", b"immutable", b"must-understand"))
# Without these the rest of an answer would be misread, so none can be left out of what is stored.
_INDISPENSABLE = frozenset(
    (
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"location",
        b"vary",
    )
)


class ResponseDirectives(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says to caches; seconds, None where it does not say.

    `no_cache` and `private` are the unqualified forms; the field names of the qualified ones are in
    lower case. `shared` says that a well-formed public, must-revalidate or s-maxage allows what
    RFC 9111 §3.5 wants allowed. `targeted` says that the directives are of a field that puts
    Expires out of force, too (RFC 9213 §2.2).
    """

    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    no_transform: bool = False
    no_cache_fields: frozenset[bytes] = frozenset()
    private_fields: frozenset[bytes] = frozenset()
    extensions: dict[bytes, bytes | None] = {}
    shared: bool = False
    targeted: bool = False


class RequestDirectives(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says to caches; seconds, None where it does not say.

    `max_stale` is infinite when the client takes an answer that is stale for however long.
    """

    max_age: int | None = None
    max_stale: float | None = None
    min_fresh: int | None = None
    stale_if_error: int | None = None
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    no_transform: bool = False


class Directive(NamedTuple):
    """One directive as it was found: `name` in lower case, `argument` without its quotes.

    Not `sound` is a word that was found in what is no directive by the grammar.
    """

    name: bytes
    argument: bytes | None = None
    sound: bool = True


NOTHING_ASKED = RequestDirectives()
_NOTHING_SAID = ResponseDirectives()
_PRAGMA_ASKED = RequestDirectives(no_cache=True)
_PRAGMA_SAID = ResponseDirectives(no_cache=True)


def parse_response(value: bytes | None, pragma: bytes | None = None) -> ResponseDirectives:
    """Read the Cache-Control of an answer, its lines combined.

    `pragma` is looked at where there is no Cache-Control: what no-cache means in an answer was
    never defined, and Squid and Apache take it for what its author meant. RFC 9111 §5.4.
    """
    if not value:
        return _PRAGMA_SAID if _says_no_cache(pragma) else _NOTHING_SAID
    return _said(value) if len(value) <= REMEMBERED_BYTES else _read_said(value)


def parse_request(value: bytes | None, pragma: bytes | None = None) -> RequestDirectives:
    """Read the Cache-Control of a request, its lines combined. RFC 9111 §5.2.1.

    `pragma` is looked at where there is no Cache-Control. RFC 9111 §5.4.
    """
    if not value:
        return _PRAGMA_ASKED if _says_no_cache(pragma) else NOTHING_ASKED
    return _asked(value) if len(value) <= REMEMBERED_BYTES else _read_asked(value)


def _read_said(value: bytes) -> ResponseDirectives:
    return interpret(read_directives(value))


def _read_asked(value: bytes) -> RequestDirectives:
    seconds: dict[str, float] = {}
    flags: set[bytes] = set()
    for name, argument, sound in read_directives(value):
        given = delta_seconds(argument)
        if name == b"max-age":
            seconds["max_age"] = min(seconds.get("max_age", FOREVER_S), given or 0)
        elif name == b"min-fresh":
            wanted = FOREVER_S if given is None else given
            seconds["min_fresh"] = max(seconds.get("min_fresh", 0), wanted)
        elif name == b"max-stale" and sound:
            allowed = inf if argument is None else given
            if allowed is not None:
                seconds["max_stale"] = min(seconds.get("max_stale", inf), allowed)
        elif name == b"stale-if-error" and given is not None:
            seconds["stale_if_error"] = min(seconds.get("stale_if_error", FOREVER_S), given)
        elif sound or name != b"only-if-cached":
            flags.add(name)
    return RequestDirectives(
        **seconds,  # type: ignore[arg-type]  # only max_stale may be infinite
        no_cache=b"no-cache" in flags,
        no_store=b"no-store" in flags,
        only_if_cached=b"only-if-cached" in flags,
        no_transform=b"no-transform" in flags,
    )


# A site has a dozen of them, and browsers three.
_said = lru_cache(maxsize=REMEMBERED)(_read_said)
_asked = lru_cache(maxsize=REMEMBERED)(_read_asked)


def read_directives(value: bytes) -> Iterator[Directive]:
    """Yield the directives of a field value in order, and each word of what is none."""
    for name, argument, broken in ELEMENT.findall(value):
        if name:
            yield Directive(name.lower(), _unquoted(argument) if argument else None)
        for word in TOKEN.findall(broken):
            yield Directive(word.lower(), None, sound=False)


def interpret(directives: Iterable[Directive], *, targeted: bool = False) -> ResponseDirectives:
    """Put together what the directives of an answer say. RFC 9111 §5.2.2."""
    seconds: dict[bytes, int] = {}
    flags: set[bytes] = set()
    names: dict[bytes, frozenset[bytes]] = {}
    extensions: dict[bytes, bytes | None] = {}
    shared = False
    for name, argument, sound in directives:
        if name in WITH_SECONDS:
            given = delta_seconds(argument)
            seconds[name] = min(seconds.get(name, FOREVER_S), given or 0)
            shared |= name == b"s-maxage" and given is not None
        elif name in WITH_FIELD_NAMES:
            listed = _field_names(argument)
            if listed is None:
                flags.add(name)
            else:
                names[name] = names.get(name, frozenset()) | listed
        elif name in _RESTRICTIVE:
            flags.add(name)
            shared |= name == b"must-revalidate" and sound and argument is None
        elif sound and name in _PERMISSIVE:
            # None of them takes an argument; immutable is to be read without it. RFC 8246 §2.
            if argument is None or name == b"immutable":
                flags.add(name)
        elif sound:
            extensions.setdefault(name, argument)
    return ResponseDirectives(
        max_age=seconds.get(b"max-age"),
        s_maxage=seconds.get(b"s-maxage"),
        stale_while_revalidate=seconds.get(b"stale-while-revalidate"),
        stale_if_error=seconds.get(b"stale-if-error"),
        no_store=b"no-store" in flags,
        no_cache=b"no-cache" in flags,
        private=b"private" in flags,
        public=b"public" in flags,
        must_revalidate=b"must-revalidate" in flags,
        proxy_revalidate=b"proxy-revalidate" in flags,
        must_understand=b"must-understand" in flags,
        immutable=b"immutable" in flags,
        no_transform=b"no-transform" in flags,
        no_cache_fields=names.get(b"no-cache", frozenset()),
        private_fields=names.get(b"private", frozenset()),
        extensions=extensions,
        shared=shared or b"public" in flags,
        targeted=targeted,
    )


def delta_seconds(argument: bytes | None) -> int | None:
    """Read a number of seconds, at most FOREVER_S; None when it is not one. RFC 9111 §1.2.2."""
    if argument is None or not argument.isdigit():
        return None
    digits = argument.lstrip(b"0") or b"0"
    return FOREVER_S if len(digits) > 10 else min(int(digits), FOREVER_S)


def _says_no_cache(pragma: bytes | None) -> bool:
    return pragma is not None and any(name == b"no-cache" for name, *_ in read_directives(pragma))


def _unquoted(argument: bytes) -> bytes:
    return QUOTED_PAIR.sub(rb"\1", argument[1:-1]) if argument.startswith(b'"') else argument


def _field_names(argument: bytes | None) -> frozenset[bytes] | None:
    """Read a list of field names; None when it is none, or cannot be obeyed by leaving them out.

    The unqualified form holds then, which is the stricter one.
    """
    names = [name.strip(b" \t") for name in (argument or b"").lower().split(b",")]
    names = [name for name in names if name]
    if not names or not all(TOKEN.fullmatch(name) for name in names):
        return None
    return None if _INDISPENSABLE.intersection(names) else frozenset(names)
