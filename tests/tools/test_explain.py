"""Explanations: each step of each way that a request can take, with its source."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.tools import explain as explaining
from proxy.tools.asked import asked
from proxy.tools.explain import explain, show_entry
from proxy.tools.findings import Explanation
from proxy.tools.setting import Setting, setting
from proxy.tools.stored import NOBODY
from tests.tools.conftest import CONFIGURATION, Store

URL = "http://127.0.0.1:8080/a"


def told_of(site: Setting, url: str = URL, *headers: str, method: str = "GET") -> Explanation:
    return explain(site, asked(url, headers, method))


def lines(told: Explanation, title: str) -> list[str]:
    """Return verdict and facts of the step of that title, each with its source."""
    (step,) = [step for step in told.steps if step.title == title]
    every = [(step.verdict, step.source), *((fact.text, fact.source) for fact in step.facts)]
    return [f"{said} | {source}" for said, source in every]


def outcome(told: Explanation) -> str:
    assert told.outcome is not None
    return told.outcome.text


@pytest.fixture
def upstream(folder: Path) -> Iterator[dict[str, bytes]]:
    """Run a server behind the routes; what it answers with can be changed."""
    says = {"answer": b"", "asked": b""}
    started = threading.Event()
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        says["asked"] = await reader.readuntil(b"\r\n\r\n")
        writer.write(says["answer"])
        if not says["answer"]:
            await reader.read()  # until whoever asked gives up
        writer.close()

    async def main() -> None:
        server = await asyncio.start_unix_server(serve, str(folder / "old.sock"))
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()

    task = loop.create_task(main())
    thread = threading.Thread(target=loop.run_until_complete, args=(task,))
    thread.start()
    assert started.wait(10)
    yield says
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
    loop.close()


def answer(*lines: str, status: str = "200 OK") -> bytes:
    head = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: 2\r\n\r\nok".encode()


# ── Before the cache ─────────────────────────────────────────────────────────────────────────


def test_the_listener_and_the_route_have_their_lines(site: Setting) -> None:
    told = told_of(site)
    assert told.request == f"GET {URL}"
    assert lines(told, "Arrives at") == ["127.0.0.1:8080, http | proxy.toml:1"]
    assert lines(told, "Route") == [
        "/* → old | proxy.toml:22",
        "not /static/*: another path | proxy.toml:11",
        "not bare.example /bare/*: another path | proxy.toml:15",
    ]
    assert lines(told, "Upstream")[0].endswith("old.sock | proxy.toml:24")


def test_a_route_of_another_host_says_so(site: Setting) -> None:
    assert "not bare.example /bare/*: another host | proxy.toml:15" in lines(
        told_of(site, "http://127.0.0.1:8080/bare/x"), "Route"
    )


def test_a_listener_that_wants_https_ends_it(site: Setting) -> None:
    told = told_of(site, "http://127.0.0.1:8081/a")
    assert "308" in outcome(told)
    assert "https://127.0.0.1:8443/a" in outcome(told)


def test_where_no_listener_speaks_https_that_is_said(site: Setting) -> None:
    told = told_of(site, "https://h/a")
    assert "no [[listen]] speaks https" in lines(told, "Arrives at")[0]
    assert lines(told, "Key")[0] == "https://h/a | RFC 9111 §2"


def test_a_refused_method_ends_it(site: Setting) -> None:
    assert "405" in outcome(told_of(site, method="TRACE"))


def test_options_for_the_server_itself_ends_it(site: Setting) -> None:
    assert "204" in outcome(told_of(site, URL, "Max-Forwards: 0", method="OPTIONS"))


def test_purge_goes_its_own_way_where_it_is_allowed(folder: Path) -> None:
    text = CONFIGURATION.replace("[cache]\n", '[cache]\npurge_from = ["10.0.0.0/8"]\n')
    (folder / "proxy.toml").write_text(text)
    told = told_of(setting(folder / "proxy.toml"), method="PURGE")
    assert "purge_from" in outcome(told)


def test_without_a_route_it_is_not_found(folder: Path) -> None:
    (folder / "proxy.toml").write_text('[[route]]\npath = "/static/*"\nfiles = "static"\n')
    told = told_of(setting(folder / "proxy.toml"))
    assert outcome(told).startswith("proxyd answers 404")


def test_a_file_is_looked_up(site: Setting) -> None:
    told = told_of(site, "http://127.0.0.1:8080/static/a.css")
    assert lines(told, "File")[0].endswith("/static/a.css | proxy.toml:13")
    assert outcome(told).startswith("200")
    assert outcome(told_of(site, "http://127.0.0.1:8080/static/none")).startswith(
        "proxyd answers 404"
    )


def test_a_decoded_path_is_shown(site: Setting) -> None:
    assert any("/b/c" in line for line in lines(told_of(site, URL + "/%2Fb%2Fc"), "Route"))


def test_an_application_is_named(folder: Path) -> None:
    (folder / "proxy.toml").write_text('[[route]]\npath = "/*"\nto = "x"\n[app.x]\nwsgi = "m:a"\n')
    told = told_of(setting(folder / "proxy.toml"))
    assert lines(told, "Upstream")[0].startswith("app x: m:a under waitress")


def test_a_route_without_a_cache_says_who_turned_it_off(site: Setting) -> None:
    told = told_of(site, "http://bare.example/bare/x")
    assert lines(told, "Cache") == ["off for this route | proxy.toml:20 enabled"]
    assert "nothing is stored" in outcome(told)


# ── Key and request ──────────────────────────────────────────────────────────────────────────


def test_the_key_says_what_it_leaves_out(site: Setting) -> None:
    told = told_of(site, URL + "?utm_a=1&b=2", "Cookie: _ga=1; s=2")
    assert lines(told, "Key") == [
        "http://127.0.0.1:8080/a?b=2 | RFC 9111 §2",
        "?utm_a is left out, and not sent to the application | proxy.toml:30 key.query",
        "the cookie _ga does not matter; the application does not get it with what is fetched"
        " for all | proxy.toml:27 ignore_cookies",
        "the cookie s matters where an answer is not for all | ",
    ]


def test_the_key_says_what_is_in_it_or_shared(folder: Path) -> None:
    key = (
        'query = { sort = true }\ncookies = ["s"]\nheaders = ["X-A"]\nhost = false\nscheme = false'
    )
    text = CONFIGURATION.replace('query = { ignore = ["utm_*"] }', key)
    (folder / "proxy.toml").write_text(text)
    said = lines(told_of(setting(folder / "proxy.toml"), URL + "?b&a", "Cookie: s=1"), "Key")
    assert [line.partition(" | ")[0] for line in said] == [
        "*://*/a?a&b cookie:s=1",
        "http and https share their answers",
        "all hosts share their answers",
        "parameters are put in order",
        "the cookie s is in the key",
        "the field x-a is in the key",
        "the cookie s matters where an answer is not for all",
    ]


@pytest.mark.parametrize(
    ("method", "header", "said"),
    [
        ("POST", "A: b", "POST is not answered from a cache | RFC 9111 §3"),
        ("GET", "Cookie: preview=1", "goes past the cache: cookie preview | proxy.toml:31 bypass"),
    ],
)
def test_what_goes_past_the_cache_says_why(
    method: str, header: str, said: str, site: Setting
) -> None:
    told = told_of(site, URL, header, method=method)
    assert lines(told, "Request") == [said]
    assert "goes past the cache" in outcome(told)


def test_the_wishes_of_the_request_have_their_sections(site: Setting) -> None:
    told = told_of(site, URL, "Cache-Control: max-age=0, no-cache, max-stale", "Range: bytes=0-1")
    assert lines(told, "Request") == [
        "has wishes of its own | ",
        "max-age=0 | RFC 9111 §5.2.1.1",
        "max-stale=inf | RFC 9111 §5.2.1.2",
        "no-cache | RFC 9111 §5.2.1.4",
        "is a HEAD, conditional, or for a range | RFC 9110 §9.3.2, §13, §14",
    ]


def test_wishes_that_a_rule_ignores_are_named(folder: Path) -> None:
    text = CONFIGURATION.replace(
        'min_ttl = "10s"', 'min_ttl = "10s"\nignore = ["request-cache-control"]'
    )
    (folder / "proxy.toml").write_text(text)
    told = told_of(setting(folder / "proxy.toml"), URL, "Cache-Control: no-cache")
    assert lines(told, "Request")[1] == "Cache-Control: no-cache is ignored | proxy.toml:27 ignore"


# ── What is stored ───────────────────────────────────────────────────────────────────────────


def test_a_miss_says_what_will_be_done(site: Setting) -> None:
    told = told_of(site)
    assert lines(told, "Stored")[0].startswith("nothing, on disk")
    assert "fwd=uri-miss" in outcome(told)
    assert "stored if it may be" not in outcome(told_of(site, method="HEAD"))
    assert outcome(told_of(site, URL, "Cache-Control: only-if-cached")).startswith("504")


def test_a_hit_says_how_long_it_is_one(site: Setting, store: Store) -> None:
    store(tags=(b"news",))
    told = told_of(site)
    assert "tags: news | " in lines(told, "Stored")
    assert lines(told, "Lifetime")[0] == "fresh for 1m: the answer says max-age | RFC 9111 §5.2.2.1"
    assert lines(told, "Now")[0] == "it is younger than its lifetime | RFC 9111 §4.2"
    assert outcome(told) == "A hit: 200 from the cache at once."


def test_where_it_is_and_what_is_older_elsewhere_is_said(
    site: Setting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tools.test_stored import Workers

    entry = store()
    older = store(age_s=30.0, status=404)
    monkeypatch.setattr(
        "proxy.tools.explain_cache.WorkerSockets", lambda _folder: Workers([entry], [older])
    )
    said = lines(told_of(site), "Stored")
    assert said[0].endswith("5 hits, in the memory of worker 1 | ")
    assert any("an older one, until it is stale there: 404" in line for line in said)
    Path(path_of(str(site.folder), name_of(entry.key, b""))).write_bytes(b"x" * 500)
    said = lines(told_of(site), "Stored")
    assert any("the disk cannot be read" in line for line in said)


def test_a_condition_of_the_client_is_answered(site: Setting, store: Store) -> None:
    store()
    assert outcome(told_of(site, URL, 'If-None-Match: "v1"')).startswith("A hit: 304")


def test_a_rule_of_proxy_toml_is_named_with_its_line(site: Setting, store: Store) -> None:
    store(URL, (b"Cache-Control", b"public, max-age=1"), fresh_s=15.0)
    said = lines(told_of(site), "Lifetime")
    assert "the answer says less than the rule's least | proxy.toml:26 min_ttl" in said[0]
    assert "then used for 1h when the upstream fails | proxy.toml:28 stale_if_error" in said


def test_what_was_read_otherwise_is_not_used(site: Setting, store: Store) -> None:
    store(storing_id=1)
    told = told_of(site)
    assert any("under another `ignore`" in line for line in lines(told, "Stored"))
    assert "fwd=uri-miss" in outcome(told)


def test_lifetimes_are_those_of_the_file_as_it_is(site: Setting, store: Store) -> None:
    store(URL, (b"Cache-Control", b"public, max-age=60"), fresh_s=600.0, lifetime_id=1)
    assert "old, fresh for 5" in lines(told_of(site), "Now")[1]  # not of ten minutes


def test_an_override_is_named(site: Setting, store: Store) -> None:
    store("http://127.0.0.1:8080/feed/x", fresh_s=10.0)
    said = lines(told_of(site, "http://127.0.0.1:8080/feed/x"), "Lifetime")
    assert "the 1. of [[route.cache.rules]] is for it | proxy.toml:33" in said


def test_what_is_stale_says_what_is_asked_and_what_if_that_fails(
    site: Setting, store: Store
) -> None:
    store(age_s=100.0)
    told = told_of(site)
    said = lines(told, "Now")
    assert said[0] == "it is older than its lifetime | RFC 9111 §4.2.4"
    assert 'the upstream is asked with If-None-Match: "v1" | RFC 9111 §4.3.1' in said
    assert any("if it fails: the stale answer is served" in line for line in said)
    assert "validated" in outcome(told)


def test_what_must_be_revalidated_is_not_served_stale(site: Setting, store: Store) -> None:
    store(
        URL,
        (b"Cache-Control", b"max-age=60, must-revalidate"),
        (b"CDN-Cache-Control", b"max-age=50"),
        age_s=100.0,
        must_revalidate=True,
        variant=b"cookie",
        vary=(b"cookie",),
    )
    told = told_of(site)
    assert "cdn-cache-control speaks to this cache, so Cache-Control does not | RFC 9213 §2.2" in (
        lines(told, "Lifetime")
    )
    assert any("its error is passed on" in line for line in lines(told, "Now"))
    assert "no validator" in outcome(told)


def test_grace_serves_and_refreshes(site: Setting, store: Store) -> None:
    store(
        URL,
        (b"Cache-Control", b"public, max-age=60, stale-while-revalidate=900, stale-if-error=9"),
        age_s=100.0,
        swr_until=1e12,
    )
    told = told_of(site)
    assert "refreshed in the background" in outcome(told)
    assert "then used for 15m while it is refreshed | RFC 5861 §3" in lines(told, "Lifetime")
    assert "then used for 9s when the upstream fails | RFC 5861 §4" in lines(told, "Lifetime")


def test_answers_for_some_cookies_only_say_why(site: Setting, store: Store) -> None:
    store(
        URL,
        (b"Cache-Control", b"max-age=60"),
        (b"Age", b"20"),
        (b"Vary", b"Accept-Language"),
        variant=b"accept-language cookie",
        vary=(b"accept-language", b"cookie"),
    )
    told = told_of(site)
    assert "for requests with no accept-language, no cookie | RFC 9111 §4.1" in (
        lines(told, "Stored")
    )
    said = lines(told, "Lifetime")
    assert "it was 20s old when it came | RFC 9111 §4.2.3" in said
    assert "Vary: accept-language | RFC 9111 §4.1" in said
    assert any("only for the same cookies and Authorization" in line for line in said)


def test_variants_for_others_are_a_vary_miss(
    site: Setting, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.tools.explain_cache._OTHERS", 0)
    from tests.tools.test_stored import describe

    store(variant=b"accept-language=de", vary=(b"accept-language",))
    describe(site.folder, b"accept-language=de")
    told = told_of(site)
    assert lines(told, "Stored") == [
        "only variants for other requests | RFC 9111 §4.1",
        f"{NOBODY} | ",
        "variants are told apart by accept-language | RFC 9111 §4.1",
        "and 1 variants more | ",
    ]
    assert "fwd=vary-miss" in outcome(told)


@pytest.mark.parametrize(
    ("mode", "said", "after"),
    [
        (Verdict.HARD, "a purge has removed it", "A miss"),
        (Verdict.SOFT, "a soft purge has made it stale", "It is validated"),
        (Verdict.INVALID, "it was invalidated, and must be validated", "It is validated"),
    ],
)
def test_purges_are_told(mode: Verdict, said: str, after: str, site: Setting, store: Store) -> None:
    purges = Purges(site.folder)
    store(purge_seq=purges.current())
    purges.add(Kind.ALL, mode)
    purges.close()
    told = told_of(site)
    assert any(line.startswith(said) for line in lines(told, "Stored"))
    assert outcome(told).startswith(after)


def test_what_cannot_be_read_is_told(site: Setting, store: Store) -> None:
    store()
    for path in site.folder.glob("*/*"):
        path.write_bytes(b"x" * 500)
    assert lines(told_of(site), "Stored")[0].startswith("the disk cannot be read")


def test_the_entry_alone_is_shown_with_its_fields(site: Setting, store: Store) -> None:
    store()
    told = show_entry(site, asked(URL))
    assert [step.title for step in told.steps] == ["Key", "Stored", "Fields", "Lifetime", "Now"]
    assert "Cache-Control: public, max-age=60 | " in lines(told, "Fields")


def test_what_has_no_entry_is_shown_as_it_is(site: Setting) -> None:
    told = show_entry(site, asked("http://127.0.0.1:8080/static/a.css"))
    assert [step.title for step in told.steps] == ["Arrives at", "Route", "File", "Cache"]


# ── Asking the upstream ──────────────────────────────────────────────────────────────────────


def test_the_upstreams_answer_is_judged(site: Setting, upstream: dict[str, bytes]) -> None:
    upstream["answer"] = answer(
        "Cache-Control: public, max-age=30", "Cache-Tag: a", "Connection: close"
    )
    told = explain(site, asked(URL + "?utm_x=1"), fetch=True)
    assert upstream["asked"].startswith(b"GET /a HTTP/1.1\r\n")
    assert lines(told, "Storing")[:2] == [
        "the answer states how long it is fresh | RFC 9111 §3",
        "fresh for 30s: the answer says max-age | RFC 9111 §5.2.2.1",
    ]
    assert "the answer is stored, for " in outcome(told)


def test_what_may_not_be_stored_says_why(site: Setting, upstream: dict[str, bytes]) -> None:
    upstream["answer"] = answer("Cache-Control: private", "Set-Cookie: a=b")
    told = explain(site, asked(URL), fetch=True)
    assert lines(told, "Storing")[0] == "the answer is for a single user | RFC 9111 §5.2.2.7"
    assert outcome(told).endswith("the answer is not stored: the answer is for a single user.")


def test_fields_that_are_not_stored_are_named(site: Setting, upstream: dict[str, bytes]) -> None:
    upstream["answer"] = answer('Cache-Control: public, max-age=9, private="x-user"', "X-User: me")
    said = lines(explain(site, asked(URL), fetch=True), "Storing")
    assert "x-user is not stored | RFC 9111 §3.1" in said


def test_what_is_fresh_stays_a_hit_whatever_the_upstream_says(
    site: Setting, store: Store, upstream: dict[str, bytes]
) -> None:
    store()
    upstream["answer"] = answer("Cache-Control: no-store")
    told = explain(site, asked(URL), fetch=True)
    assert outcome(told).startswith("A hit")
    assert lines(told, "Storing")[0] == "the answer says no-store | RFC 9111 §5.2.2.5"


@pytest.mark.parametrize(
    ("url", "headers"), [("http://bare.example/bare/x", []), (URL, ["Cookie: preview=1"])]
)
def test_what_goes_past_the_cache_is_asked_and_not_judged(
    url: str, headers: list[str], site: Setting, upstream: dict[str, bytes]
) -> None:
    upstream["answer"] = answer("Age: 1", status="404 Not Found")
    told = explain(site, asked(url, headers), fetch=True)
    assert lines(told, "Upstream says") == ["404 | ", "Age: 1 | "]
    assert told.steps[-1].title == "Upstream says"


def test_an_upstream_that_is_not_there_is_told(site: Setting) -> None:
    told = explain(site, asked(URL), fetch=True)
    assert lines(told, "Upstream says")[0].startswith("502")


def test_an_upstream_that_upgrades_is_let_go(site: Setting, upstream: dict[str, bytes]) -> None:
    upstream["answer"] = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    told = explain(
        site,
        asked(
            "http://bare.example/bare/x",
            [
                "Connection: Upgrade",
                "Upgrade: websocket",
            ],
        ),
        fetch=True,
    )
    assert lines(told, "Upstream says")[0].startswith("101")


def test_an_upstream_that_is_silent_is_not_waited_for(
    site: Setting, upstream: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.tools.explain_answer._PATIENCE_S", 0.3)
    told = explain(site, asked(URL), fetch=True)
    assert lines(told, "Upstream says")[0].startswith("504: no answer within 0.3s")


def test_ports_are_those_of_the_url() -> None:
    assert explaining.port_of(asked("http://h/")) == 80
    assert explaining.port_of(asked("https://h/")) == 443
    assert explaining.port_of(asked("https://h:1/")) == 1
