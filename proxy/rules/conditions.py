"""Whether a request meets one of several conditions, and which rule an answer gets. Pure."""

from proxy.message import Fields, Request
from proxy.rules.cache_rule import (
    NO_CONDITIONS,
    CacheRule,
    Conditions,
    Hosts,
    MediaTypes,
    Override,
    Paths,
)
from proxy.rules.cookies import parse_cookies
from proxy.rules.query import parse_query


def met(conditions: Conditions, request: Request) -> bytes:
    """Return what of `request` meets a condition, empty when nothing does.

    Names the thing, such as b"cookie sessionid", and never its value, which may be a secret.
    """
    if conditions is NO_CONDITIONS:
        return b""
    if request.method in conditions.methods:
        return b"method " + request.method
    if conditions.paths is not None and in_paths(conditions.paths, request.route_path):
        return b"path " + request.route_path
    return _field_met(conditions, request) or _parameter_met(conditions, request)


def _field_met(conditions: Conditions, request: Request) -> bytes:
    for name, value in conditions.headers:
        given = request.fields.get(name)
        if given is not None and (value is None or value.fullmatch(given)):
            return b"header " + name
    if conditions.cookies is not None:
        for name, content in parse_cookies(request.fields.get(b"cookie")):
            if conditions.cookies.fullmatch(name + b"=" + content):
                return b"cookie " + name
    return b""


def _parameter_met(conditions: Conditions, request: Request) -> bytes:
    if conditions.query is not None:
        for name, value, _ in parse_query(request.query):
            if conditions.query.fullmatch(name + b"=" + value):
                return b"query " + name
    return b""


def rule_for(rule: CacheRule, request: Request, status: int, fields: Fields) -> CacheRule:
    """Return the rule with the lifetimes for an answer: of the first override that fits, or `rule`.

    `fields` are those of the answer.
    """
    for override in rule.overrides:
        if fits(override, request, status, fields):
            return override.rule
    return rule


def fits(override: Override, request: Request, status: int, fields: Fields) -> bool:
    """Say whether an override is for this answer."""
    if override.statuses is not None and status not in override.statuses:
        return False
    if override.paths is not None and not in_paths(override.paths, request.route_path):
        return False
    if override.hosts is not None and not in_hosts(override.hosts, request.host):
        return False
    return override.types is None or in_types(override.types, fields.get(b"content-type"))


def in_paths(paths: Paths, path: bytes) -> bool:
    """Say whether `path`, with every escape decoded, is one of `paths`."""
    return path in paths.exact or path.startswith(paths.below)


def in_hosts(hosts: Hosts, host: bytes) -> bool:
    """Say whether the lower-case `host` is one of `hosts`."""
    return host in hosts.exact or host.endswith(hosts.suffixes)


def in_types(types: MediaTypes, content_type: bytes | None) -> bool:
    """Say whether the media type of a Content-Type, without its parameters, is one of `types`."""
    media_type = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    return media_type in types.exact or media_type.partition(b"/")[0] in types.families
