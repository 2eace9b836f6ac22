"""Whether a request meets a condition, and which override an answer gets."""

import pytest

from proxy.message import Fields, Request
from proxy.rules.cache_rule import (
    CacheRule,
    Conditions,
    FieldTest,
    Hosts,
    MediaTypes,
    Override,
    Paths,
)
from proxy.rules.conditions import met, rule_for
from proxy.rules.name_patterns import compile_names, compile_pairs

SESSION = Conditions(cookies=compile_pairs([b"session", b"wp_*", b"mode=raw"]))
PREVIEW = Conditions(query=compile_pairs([b"preview", b"cache=off"]))
FIELDS = Conditions(
    headers=(FieldTest(b"x-preview", None), FieldTest(b"x-env", compile_names([b"test*"])))
)
ADMIN = Conditions(paths=Paths(exact=frozenset((b"/admin", b"/me")), below=(b"/admin/",)))
HEAD = Conditions(methods=frozenset((b"HEAD",)))


def request(
    path: bytes = b"/",
    query: bytes | None = None,
    fields: list[tuple[bytes, bytes]] | None = None,
    *,
    method: bytes = b"GET",
    host: bytes = b"example.com",
) -> Request:
    return Request(method, path, 1, Fields(fields or ()), path, query, host, host)


def cookie(value: bytes) -> Request:
    return request(fields=[(b"Cookie", value)])


@pytest.mark.parametrize(
    ("conditions", "asked", "by"),
    [
        (Conditions(), cookie(b"session=1"), b""),
        (SESSION, request(), b""),
        (SESSION, cookie(b"lang=de"), b""),
        (SESSION, cookie(b"lang=de; session=secret"), b"cookie session"),
        (SESSION, cookie(b"session"), b"cookie session"),
        (SESSION, cookie(b"wp_logged_in=1"), b"cookie wp_logged_in"),
        (SESSION, cookie(b"mode=raw"), b"cookie mode"),
        (SESSION, cookie(b"mode=rough"), b""),
        (SESSION, cookie(b"xsession=1"), b""),
        (PREVIEW, request(), b""),
        (PREVIEW, request(query=b"a=1"), b""),
        (PREVIEW, request(query=b"a=1&preview"), b"query preview"),
        (PREVIEW, request(query=b"%70review=1"), b"query preview"),
        (PREVIEW, request(query=b"cache=off"), b"query cache"),
        (PREVIEW, request(query=b"cache=on"), b""),
        (FIELDS, request(), b""),
        (FIELDS, request(fields=[(b"X-Preview", b"")]), b"header x-preview"),
        (FIELDS, request(fields=[(b"X-Env", b"testing")]), b"header x-env"),
        (FIELDS, request(fields=[(b"X-Env", b"live")]), b""),
        (ADMIN, request(b"/admin"), b"path /admin"),
        (ADMIN, request(b"/admin/users"), b"path /admin/users"),
        (ADMIN, request(b"/administration"), b""),
        (ADMIN, request(b"/me"), b"path /me"),
        (ADMIN, request(b"/me/"), b""),
        (HEAD, request(method=b"HEAD"), b"method HEAD"),
        (HEAD, request(), b""),
    ],
)
def test_one_condition_is_enough_and_is_named_without_its_value(
    conditions: Conditions, asked: Request, by: bytes
) -> None:
    assert met(conditions, asked) == by


def test_a_path_is_compared_with_its_escapes_decoded() -> None:
    asked = request(b"/%61dmin/x")
    asked.route_path = b"/admin/x"
    assert met(ADMIN, asked)


SHORT, LONG = CacheRule(max_ttl_s=1), CacheRule(min_ttl_s=60)
PLAIN = CacheRule()


@pytest.mark.parametrize(
    ("override", "fits"),
    [
        (Override(rule=SHORT), True),
        (Override(rule=SHORT, paths=Paths(below=(b"/news/",))), True),
        (Override(rule=SHORT, paths=Paths(exact=frozenset((b"/",)))), False),
        (Override(rule=SHORT, hosts=Hosts(exact=frozenset((b"www.example.com",)))), True),
        (Override(rule=SHORT, hosts=Hosts(suffixes=(b".example.com",))), True),
        (Override(rule=SHORT, hosts=Hosts(suffixes=(b".example.org",))), False),
        (Override(rule=SHORT, statuses=frozenset((200, 404))), True),
        (Override(rule=SHORT, statuses=frozenset((404,))), False),
        (Override(rule=SHORT, types=MediaTypes(exact=frozenset((b"text/html",)))), True),
        (Override(rule=SHORT, types=MediaTypes(families=frozenset((b"text",)))), True),
        (Override(rule=SHORT, types=MediaTypes(families=frozenset((b"image",)))), False),
        (
            Override(
                rule=SHORT, statuses=frozenset((200,)), types=MediaTypes(exact=frozenset((b"a/b",)))
            ),
            False,
        ),
    ],
)
def test_an_override_fits_when_all_that_it_names_does(override: Override, fits: bool) -> None:
    rule = CacheRule(overrides=(override,))
    asked = request(b"/news/today", host=b"www.example.com")
    fields = Fields([(b"Content-Type", b"Text/HTML ; charset=utf-8")])
    assert rule_for(rule, asked, 200, fields) is (SHORT if fits else rule)


def test_the_first_override_that_fits_counts() -> None:
    errors = Override(rule=SHORT, statuses=frozenset((404,)))
    rule = CacheRule(overrides=(errors, Override(rule=LONG)))
    assert rule_for(rule, request(), 404, Fields()) is SHORT
    assert rule_for(rule, request(), 200, Fields()) is LONG


def test_an_answer_without_a_type_has_none_of_them() -> None:
    rule = CacheRule(overrides=(Override(rule=SHORT, types=MediaTypes()),))
    assert rule_for(rule, request(), 200, Fields()) is rule


def test_a_rule_without_overrides_holds_for_all() -> None:
    assert rule_for(PLAIN, request(), 200, Fields()) is PLAIN
