"""From [route.cache] to the rule that the steps are given."""

from math import inf
from pathlib import Path

import pytest

from proxy.compose_cache import cache_rule, named, paths
from proxy.config.load import parse
from proxy.config.routes import ToRoute
from proxy.message import Fields, Request
from proxy.rules.cache_key import primary_key
from proxy.rules.cache_rule import IGNORABLE, CacheRule, Paths
from proxy.rules.conditions import met, rule_for

TO = '[upstream.old]\nservers = ["a:1"]\n[[route]]\npath = "/*"\nto = "old"\n'


def compiled(text: str) -> CacheRule:
    rule = maybe(text)
    assert rule is not None
    return rule


def maybe(text: str) -> CacheRule | None:
    (route,) = parse(TO + text, Path("proxy.toml")).route
    assert isinstance(route, ToRoute)
    return cache_rule(route.cache)


def request(
    path: bytes = b"/",
    query: bytes | None = None,
    fields: list[tuple[bytes, bytes]] | None = None,
    host: bytes = b"example.com",
) -> Request:
    return Request(b"GET", path, 1, Fields(fields or ()), path, query, host, host)


def test_a_route_that_says_nothing_has_the_cache_of_the_standard() -> None:
    assert compiled("") == named(CacheRule())


def test_a_route_may_have_no_cache() -> None:
    assert maybe("[route.cache]\nenabled = false") is None


def test_every_lifetime_is_in_the_rule() -> None:
    rule = compiled(
        """
        [route.cache]
        default_ttl = "1s"
        force_ttl = "2s"
        min_ttl = "3s"
        max_ttl = "4s"
        stale_while_revalidate = "5s"
        stale_if_error = "6s"
        keep = "7s"
        largest_object = "8B"
        slice = "1MiB"
        targets = ["X-CDN", "CDN-Cache-Control"]
        tags_to_client = true
        """
    )
    assert rule == named(
        CacheRule(
            default_ttl_s=1.0,
            force_ttl_s=2.0,
            min_ttl_s=3.0,
            max_ttl_s=4.0,
            stale_while_revalidate_s=5.0,
            stale_if_error_s=6.0,
            keep_s=7.0,
            largest_bytes=8,
            slice_bytes=1 << 20,
            targets=(b"x-cdn", b"cdn-cache-control"),
            pass_tags=True,
        )
    )


def test_a_status_counts_more_than_its_hundred() -> None:
    rule = compiled('[route.cache]\nstatus_ttl = { 404 = "10s", 4xx = "1s", 503 = "0s" }')
    assert len(rule.status_ttl_s) == 101
    assert rule.status_ttl_s[404] == 10
    assert rule.status_ttl_s[400] == rule.status_ttl_s[499] == 1
    assert rule.status_ttl_s[503] == 0


def test_everything_that_can_be_ignored_is() -> None:
    names = ", ".join(f'"{name.decode().title()}"' for name in IGNORABLE)
    assert compiled(f"[route.cache]\nignore = [{names}]").ignore == frozenset(IGNORABLE)


def test_the_key_is_as_it_is_written() -> None:
    rule = compiled(
        """
        [route.cache.key]
        query = { ignore = ["utm_*"], sort = true }
        cookies = ["lang"]
        headers = ["X-Country"]
        scheme = false
        """
    )
    asked = request(b"/a", b"b&utm_x&a", [(b"Cookie", b"lang=de; x=1"), (b"X-Country", b"DE")])
    key = primary_key(asked, rule.key, b"https")
    assert key == b"*://example.com/a?a&b cookie:lang=de header:x-country=DE"


@pytest.mark.parametrize(("keep", "counts"), [("[]", b""), ('["page"]', b"?page=2")])
def test_a_list_of_what_counts_leaves_out_the_rest(keep: str, counts: bytes) -> None:
    rule = compiled(f"[route.cache.key]\nhost = false\nquery.keep = {keep}")
    key = primary_key(request(b"/", b"page=2&x=1"), rule.key, b"http")
    assert key == b"http://*/" + counts


def test_cookies_that_do_not_matter_may_have_a_star() -> None:
    ignored = compiled('[route.cache]\nignore_cookies = ["_ga", "_ga_*"]').ignored_cookies
    assert ignored is not None
    assert ignored.fullmatch(b"_ga_X1")
    assert not ignored.fullmatch(b"session")


@pytest.mark.parametrize(
    ("asked", "by"),
    [
        (request(), b""),
        (request(fields=[(b"Cookie", b"session=1")]), b"cookie session"),
        (request(fields=[(b"Cookie", b"mode=raw")]), b"cookie mode"),
        (request(fields=[(b"Cookie", b"mode=nice")]), b""),
        (request(fields=[(b"X-Preview", b"")]), b"header x-preview"),
        (request(fields=[(b"X-Env", b"test-2")]), b"header x-env"),
        (request(fields=[(b"X-Env", b"live")]), b""),
        (request(query=b"fresh=1"), b"query fresh"),
        (request(b"/admin"), b"path /admin"),
    ],
)
@pytest.mark.parametrize("table", ["bypass", "no_store"])
def test_conditions_are_as_they_are_written(table: str, asked: Request, by: bytes) -> None:
    rule = compiled(
        f"""
        [route.cache.{table}]
        cookies = ["session", "mode=raw"]
        headers = ["X-Preview", "X-Env: test*"]
        query = ["fresh"]
        paths = "/admin/*"
        methods = ["HEAD"]
        """
    )
    conditions = rule.bypass if table == "bypass" else rule.no_store
    assert met(conditions, asked) == by
    assert conditions.methods == {b"HEAD"}
    assert met(rule.no_store if table == "bypass" else rule.bypass, asked) == b""


def test_paths_are_compared_as_applications_see_them() -> None:
    assert paths(["/caf%C3%A9", "/p/*", "/*"]) == Paths(
        exact=frozenset(("/café".encode(), b"/p", b"")), below=(b"/p/", b"/")
    )


RULES = """
    [route.cache]
    min_ttl = "1s"
    keep = "1h"
    status_ttl = { 5xx = "1s" }
    [[route.cache.rules]]
    path = ["/news/*", "/"]
    host = ["example.com", "*.example.com"]
    type = ["text/html", "image/*"]
    max_ttl = "10s"
    [[route.cache.rules]]
    status = [404, 503]
    force_ttl = "2s"
    [[route.cache.rules]]
    status = "410"
    default_ttl = "1d"
    keep = "0s"
"""
HTML = Fields([(b"Content-Type", b"text/html; charset=utf-8")])


@pytest.mark.parametrize(
    ("asked", "status", "index"),
    [
        (request(b"/news/1"), 200, 0),
        (request(b"/", host=b"www.example.com"), 404, 0),
        (request(b"/", host=b"example.org"), 200, None),
        (request(b"/old"), 200, None),
        (request(b"/old"), 404, 1),
        (request(b"/old"), 410, 2),
    ],
)
def test_an_override_is_for_what_it_names(asked: Request, status: int, index: int | None) -> None:
    rule = compiled(RULES)
    expected = rule if index is None else rule.overrides[index].rule
    assert rule_for(rule, asked, status, HTML) is expected


def test_an_override_has_the_rest_of_the_rule_around_it() -> None:
    rule = compiled(RULES)
    pages, errors, gone = (override.rule for override in rule.overrides)
    assert (rule.max_ttl_s, pages.max_ttl_s, pages.min_ttl_s, pages.keep_s) == (inf, 10, 1, 3600)
    assert pages.status_ttl_s == rule.status_ttl_s
    # what is written for a status holds for it though it is an error
    assert (errors.force_ttl_s, errors.status_ttl_s[404], errors.status_ttl_s[503]) == (2, 2, 2)
    assert errors.status_ttl_s[500] == 1
    assert (gone.status_ttl_s[410], gone.keep_s) == (86400, 0)
    assert 410 not in rule.status_ttl_s
    assert not any(override.rule.overrides for override in rule.overrides)


def test_rules_are_told_apart_by_what_they_say() -> None:
    plain = named(CacheRule())
    assert plain == named(CacheRule())
    assert named(CacheRule(max_ttl_s=1.0)).lifetime_id != plain.lifetime_id
    assert named(CacheRule(max_ttl_s=1.0)).storing_id == plain.storing_id
    ignoring = named(CacheRule(ignore=frozenset((b"vary", b"expires"))))
    assert ignoring.storing_id != plain.storing_id
    assert ignoring.lifetime_id == plain.lifetime_id
