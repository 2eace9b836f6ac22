"""What is one resource to the cache, and what tells its variants apart. RFC 9111 §2, §4.1."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields, Request
from proxy.rules.cache_control import ResponseDirectives, parse_response
from proxy.rules.cache_key import (
    READABLE_BYTES,
    REMEMBERED_BYTES,
    base_key,
    key_query,
    key_url,
    primary_key,
    variant_key,
    variant_names,
    vary_names,
    without_ignored_cookies,
)
from proxy.rules.cache_rule import CacheRule, KeyRule
from proxy.rules.forwarding import Origin
from proxy.rules.name_patterns import compile_names

PLAIN = CacheRule()


def request(
    query: bytes | None = None,
    fields: list[FieldLine] | None = None,
    *,
    method: bytes = b"GET",
    authority: bytes = b"example.com",
) -> Request:
    host = authority.partition(b":")[0]
    return Request(method, b"/a", 1, Fields(fields or ()), b"/a", query, authority, host)


def key(asked: Request, rule: KeyRule | None = None, scheme: bytes = b"https") -> bytes:
    return primary_key(asked, rule or KeyRule(), scheme)


def ignoring(*patterns: bytes, **others: object) -> CacheRule:
    return CacheRule(ignored_cookies=compile_names(patterns), **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "scheme", "url"),
    [
        (request(), b"https", b"https://example.com/a"),
        (request(b"b=1"), b"https", b"https://example.com/a?b=1"),
        # an empty query is another URL than none. RFC 3986 §6.2.3
        (request(b""), b"https", b"https://example.com/a?"),
        # the default port is as good as none. RFC 9110 §4.2.3
        (request(authority=b"example.com:443"), b"https", b"https://example.com/a"),
        (request(authority=b"example.com:80"), b"http", b"http://example.com/a"),
        (request(authority=b"example.com:80"), b"https", b"https://example.com:80/a"),
        (request(authority=b"[::80]"), b"http", b"http://[::80]/a"),
        (request(authority=b""), b"http", b"http:///a"),
        (request(method=b"HEAD"), b"https", b"https://example.com/a"),
    ],
)
def test_the_key_is_the_url(asked: Request, scheme: bytes, url: bytes) -> None:
    assert key(asked, scheme=scheme) == url
    assert base_key(scheme, asked.authority, asked.path, asked.query, KeyRule()) == url


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        (KeyRule(host=False), b"https://*/a"),
        (KeyRule(scheme=False), b"*://example.com/a"),
        (KeyRule(host=False, scheme=False), b"*://*/a"),
    ],
)
def test_what_the_rule_leaves_out_of_the_url_is_a_star(rule: KeyRule, url: bytes) -> None:
    assert key(request(), rule) == url


@pytest.mark.parametrize(
    ("rule", "query", "counts"),
    [
        (KeyRule(), b"b&a&&=", b"b&a&&="),
        (KeyRule(ignore_query=compile_names([b"utm_*"])), None, None),
        (KeyRule(ignore_query=compile_names([b"utm_*"])), b"b=1&utm_a=x&a=2", b"b=1&a=2"),
        (KeyRule(ignore_query=compile_names([b"utm_*"])), b"utm_a=x", None),
        (KeyRule(ignore_query=compile_names([b"utm_*"])), b"utm%5Fa=x&b", b"b"),
        (KeyRule(ignore_query=compile_names([b"utm_*"])), b"", b""),
        # what follows a semicolon goes where the parameter goes
        (KeyRule(ignore_query=compile_names([b"utm_*"])), b"utm_a=1;callback=x&b", b"b"),
        (KeyRule(keep_query=compile_names([b"page"])), b"page=2&x=1&page=3", b"page=2&page=3"),
        (KeyRule(keep_query=compile_names([])), b"page=2&x=1", None),
        (KeyRule(sort_query=True), b"b=2&a=9&b=1&a=10", b"a=9&a=10&b=2&b=1"),
        (
            KeyRule(sort_query=True, ignore_query=compile_names([b"x"])),
            b"b=2&x&a=1",
            b"a=1&b=2",
        ),
    ],
)
def test_the_query_holds_what_counts(
    rule: KeyRule, query: bytes | None, counts: bytes | None
) -> None:
    assert key_query(query, rule) == counts
    expected = b"https://example.com/a" + (b"" if counts is None else b"?" + counts)
    assert key(request(query), rule) == expected


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (None, b""),
        (b"theme=dark", b""),
        (b"lang=", b" cookie:lang="),
        (b"theme=dark; lang=de", b" cookie:lang=de"),
        (b"lang=de; lang=fr", b" cookie:lang=de cookie:lang=fr"),
        (b"lang=a b%c#d\xff", b" cookie:lang=a%20b%25c%23d%FF"),
    ],
)
def test_a_chosen_cookie_is_in_the_key(value: bytes | None, part: bytes) -> None:
    asked = request(fields=[] if value is None else [(b"Cookie", value)])
    found = key(asked, KeyRule(cookies=(b"lang",)))
    assert found == b"https://example.com/a" + part
    assert key_url(found) == b"https://example.com/a"


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ([], b""),
        ([(b"X-Country", b"")], b" header:x-country="),
        ([(b"X-Country", b"DE")], b" header:x-country=DE"),
        ([(b"X-Country", b"DE"), (b"x-country", b"FR")], b" header:x-country=DE,%20FR"),
        ([(b"Accept-Language", b"en;q=0.5, de")], b" header:accept-language=de,en;q=0.5"),
    ],
)
def test_a_chosen_field_is_in_the_key(fields: list[FieldLine], part: bytes) -> None:
    rule = KeyRule(headers=(b"x-country", b"accept-language"))
    assert key(request(fields=fields), rule) == b"https://example.com/a" + part


def test_a_value_cannot_pass_for_another_part() -> None:
    rule = KeyRule(cookies=(b"a", b"b"), headers=(b"x",))
    one = key(request(fields=[(b"Cookie", b"a=1 cookie:b=2")]), rule)
    other = key(request(fields=[(b"Cookie", b"a=1; b=2")]), rule)
    assert one != other


@pytest.mark.parametrize("length", [READABLE_BYTES + 1, REMEMBERED_BYTES + 1, 30_000])
def test_a_long_value_is_in_the_key_as_its_digest(length: int) -> None:
    rule = KeyRule(headers=(b"x",))
    one, other = (
        key(request(fields=[(b"X", b"v" * (length - 1) + end)]), rule) for end in (b"1", b"2")
    )
    assert re.fullmatch(rb"https://example\.com/a header:x=#[0-9a-f]{40}", one)
    assert one != other


def test_no_value_passes_for_a_digest() -> None:
    rule = KeyRule(headers=(b"x",))
    long = key(request(fields=[(b"X", b"v" * 200)]), rule)
    digest = long.rpartition(b"=")[2]
    assert key(request(fields=[(b"X", digest)]), rule) != long


@pytest.mark.parametrize(
    ("origin", "scheme", "part"),
    [
        (Origin("1.1.1.1", b"https", b"example.com", b"443"), b"https", b""),
        (Origin("1.1.1.1", b"https", b"www.org", b"443"), b"https", b" forwarded-host:www.org"),
        (
            Origin("1.1.1.1", b"http", b"www.org:8080", b"8080"),
            b"http",
            b" forwarded-host:www.org:8080",
        ),
        (Origin("1.1.1.1", b"http", b"example.com", b"8080"), b"http", b" forwarded-port:8080"),
    ],
)
def test_what_a_trusted_peer_says_of_host_and_port_is_in_the_key(
    origin: Origin, scheme: bytes, part: bytes
) -> None:
    base = scheme + b"://example.com/a"
    assert primary_key(request(), KeyRule(), scheme, origin) == base + part
    hostless = primary_key(request(), KeyRule(host=False), scheme, origin)
    assert hostless == scheme + b"://*/a"


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        ([], ()),
        ([b""], ()),
        ([b" , ,"], ()),
        ([b"Accept-Encoding"], (b"accept-encoding",)),
        ([b"User-Agent,accept , ACCEPT"], (b"accept", b"user-agent")),
        ([b"b", b"a"], (b"a", b"b")),
        # §4.1: a member "*" always fails to match
        ([b"*"], None),
        ([b"a, *"], None),
        ([b"a", b"*"], None),
        ([b"accept encoding"], None),
        ([b'"a"'], None),
    ],
)
def test_vary_names_fields(vary: list[bytes], names: tuple[bytes, ...] | None) -> None:
    assert vary_names(Fields((b"Vary", line) for line in vary)) == names


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        (b"*", ()),
        (b"User-Agent", ()),
        (b"User-Agent, Cookie, Authorization", (b"authorization", b"cookie")),
    ],
)
def test_a_vary_that_is_ignored_still_says_that_it_matters_who_asks(
    vary: bytes, names: tuple[bytes, ...]
) -> None:
    assert vary_names(Fields([(b"Vary", vary)]), frozenset((b"vary",))) == names


WHO_ASKS = (b"authorization", b"cookie")
IGNORING_AUTHORIZATION = CacheRule(ignore=frozenset((b"authorization",)))


@pytest.mark.parametrize(
    ("vary", "directives", "rule", "names"),
    [
        # who asks matters unless the answer says that it is for all
        (b"", b"", PLAIN, WHO_ASKS),
        (b"", b"max-age=60", PLAIN, WHO_ASKS),
        (b"", b"max-age=60, must-revalidate", PLAIN, WHO_ASKS),
        (b"", b"", CacheRule(force_ttl_s=60, default_ttl_s=60), WHO_ASKS),
        (b"", b"public", PLAIN, ()),
        (b"", b"s-maxage=60", PLAIN, ()),
        (b"Cookie", b"public", PLAIN, (b"cookie",)),
        (b"Accept", b"max-age=60", PLAIN, (b"accept", *WHO_ASKS)),
        (b"Accept", b"public", PLAIN, (b"accept",)),
        (b"*", b"public", PLAIN, None),
        # RFC 9111 §3.5
        (b"", b"", IGNORING_AUTHORIZATION, WHO_ASKS),
        (b"", b"must-revalidate", IGNORING_AUTHORIZATION, WHO_ASKS),
        (b"", b"public", IGNORING_AUTHORIZATION, ()),
        # fields that proxyd writes for the upstream
        (b"Host, X-Forwarded-Host, X-Forwarded-Port", b"public", PLAIN, ()),
        (b"X-Forwarded-Proto, X-Forwarded-Prefix", b"public", PLAIN, ()),
        (b"X-Forwarded-Proto", b"public", CacheRule(key=KeyRule(scheme=False)), None),
        (b"Host", b"public", CacheRule(key=KeyRule(host=False)), None),
        (b"X-Forwarded-Proto", b"public", CacheRule(key=KeyRule(host=False)), ()),
        (b"X-Forwarded-Port", b"public", CacheRule(key=KeyRule(scheme=False)), None),
        (b"X-Forwarded-For", b"public", PLAIN, None),
        (b"Forwarded", b"public", PLAIN, None),
        (b"X-Real-IP", b"public", PLAIN, None),
        (b"Accept, X-Client-Cert-Subject", b"public", PLAIN, None),
    ],
)
def test_an_answer_is_told_apart_by(
    vary: bytes, directives: bytes, rule: CacheRule, names: tuple[bytes, ...] | None
) -> None:
    fields = Fields([(b"Vary", vary)])
    assert variant_names(fields, parse_response(directives), rule) == names


def test_a_field_for_shared_caches_says_that_an_answer_is_for_all() -> None:
    targeted = ResponseDirectives(max_age=60, targeted=True)
    assert variant_names(Fields(), targeted, PLAIN) == ()


@pytest.mark.parametrize(
    ("names", "fields", "variant"),
    [
        ((), [(b"A", b"1")], b""),
        ((b"a",), [], b"a"),
        ((b"a",), [(b"A", b"")], b"a="),
        ((b"a", b"b"), [(b"A", b"1")], b"a=1 b"),
        ((b"a", b"b"), [(b"A", b"1 b=2")], b"a=1%20b=2 b"),
        ((b"accept-encoding",), [(b"Accept-Encoding", b"gzip, br")], b"accept-encoding=br,gzip"),
        ((b"accept-encoding",), [(b"Accept-Encoding", b"")], b"accept-encoding="),
        ((b"accept-encoding",), [], b"accept-encoding"),
    ],
)
def test_a_variant_is_what_the_fields_come_to(
    names: tuple[bytes, ...], fields: list[FieldLine], variant: bytes
) -> None:
    assert variant_key(names, Fields(fields), PLAIN) == variant


def of_cookie(value: bytes | None, rule: CacheRule = PLAIN) -> bytes:
    fields = Fields([] if value is None else [(b"Cookie", value)])
    return variant_key((b"cookie",), fields, rule)


def test_two_sessions_are_two_variants_and_none_is_a_third() -> None:
    assert len({of_cookie(None), of_cookie(b"session=a"), of_cookie(b"session=b")}) == 3


@pytest.mark.parametrize("name", [b"Cookie", b"Authorization", b"Proxy-Authorization"])
def test_a_secret_is_not_to_be_read_in_a_key(name: bytes) -> None:
    fields = Fields([(name, b"session=secret")])
    variant = variant_key((name.lower(),), fields, PLAIN)
    assert re.fullmatch(name.lower() + rb"=#[0-9a-f]{40}", variant)
    if name != b"Cookie":
        assert b"secret" not in key(request(fields=fields.lines), KeyRule(headers=(name.lower(),)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"a=1; b=2", b"b=2;a=1", True),  # RFC 6265 §4.2.2
        (b"a=1; a=2", b"a=2; a=1", False),
        (b"_ga=1; session=x", b"session=x", True),
        (b"_ga=1; session=x", b"session=y; _ga=1", False),
        (b"_ga=1; _ga_X=2", None, True),
        (b"", None, True),
        (b"session=", None, False),
    ],
)
def test_only_the_cookies_that_matter_are_compared(
    one: bytes, other: bytes | None, same: bool
) -> None:
    rule = ignoring(b"_ga", b"_ga_*")
    assert (of_cookie(one, rule) == of_cookie(other, rule)) is same


def test_a_cookie_in_the_key_matters_though_all_are_ignored() -> None:
    rule = ignoring(b"*", key=KeyRule(cookies=(b"lang",)))
    assert of_cookie(b"session=x; lang=de", rule) == of_cookie(b"lang=de", rule)
    assert of_cookie(b"lang=de", rule) != of_cookie(b"lang=fr", rule)


@pytest.mark.parametrize(
    ("value", "rule", "sent"),
    [
        (b"_ga=1; session=x", PLAIN, b"_ga=1; session=x"),
        (b"_ga=1;session=x ; b", ignoring(b"_ga"), b"session=x; b="),
        (b"_ga=1", ignoring(b"_*"), None),
        (b"session=x; lang=de", ignoring(b"*", key=KeyRule(cookies=(b"lang",))), b"lang=de"),
    ],
)
def test_the_upstream_does_not_see_what_does_not_matter(
    value: bytes, rule: CacheRule, sent: bytes | None
) -> None:
    lines = [(b"Accept", b"*/*"), (b"Cookie", value), (b"X", b"1")]
    fields = Fields(without_ignored_cookies(Fields(lines), rule))
    assert fields.get(b"cookie") == sent
    assert (fields.get(b"accept"), fields.get(b"x")) == (b"*/*", b"1")


def test_a_request_without_cookies_goes_upstream_as_it_is() -> None:
    fields = Fields([(b"Accept", b"*/*")])
    assert without_ignored_cookies(fields, ignoring(b"*")) is fields.lines


names = st.sampled_from([b"lang", b"session", b"x"])
texts = st.binary(max_size=12).filter(lambda value: not set(value) & set(b";\r\n\0 \t"))


@given(
    st.lists(st.tuples(names, texts), max_size=4),
    st.lists(st.tuples(names, texts), max_size=4),
)
def test_equal_keys_mean_equal_cookies(
    one: list[tuple[bytes, bytes]], other: list[tuple[bytes, bytes]]
) -> None:
    """Whatever the values hold: what the key says can be told from it alone."""
    rule = KeyRule(cookies=(b"lang", b"x"))

    def keyed(cookies: list[tuple[bytes, bytes]]) -> bytes:
        value = b"; ".join(b"%b=%b" % pair for pair in cookies)
        return key(request(fields=[(b"Cookie", value)]), rule)

    def chosen(cookies: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [pair for name in rule.cookies for pair in cookies if pair[0] == name]

    assert (keyed(one) == keyed(other)) is (chosen(one) == chosen(other))


@given(st.lists(texts, min_size=2, max_size=2), st.lists(texts, min_size=2, max_size=2))
def test_equal_variants_mean_equal_values(one: list[bytes], other: list[bytes]) -> None:
    def variant(values: list[bytes]) -> bytes:
        fields = Fields(zip((b"a", b"b"), values, strict=True))
        return variant_key((b"a", b"b"), fields, PLAIN)

    assert (variant(one) == variant(other)) is (one == other)
