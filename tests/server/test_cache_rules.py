"""Rules of [route.cache] as clients and the application see them, before two workers."""

import os
from collections.abc import Iterator

import pytest

from tests.process.running import wait_for
from tests.server.caching import (
    bodies,
    cache_files,
    clients,
    configuration,
    is_hit,
    on_both,
    origin,
    told,
)
from tests.server.daemon import Daemon, serving
from tests.server.origin import FOR_ALL, NOT_MODIFIED, Answer, Answering, Asked, Origin
from tests.server.stress import command
from tests.server.test_reload import only_one_generation

__all__ = ["origin"]  # a fixture

# Each route differs from the usual in what its path says.
SETTINGS = {
    "forced": 'force_ttl = "10m"',
    "errors": 'status_ttl = { 404 = "10m", 5xx = "10m" }',
    "ignoring": 'ignore = ["cache-control", "set-cookie"]\nforce_ttl = "10m"',
    "bypass": 'bypass = { cookies = ["session"] }',
    "query": 'key = { query = { ignore = ["utm_*"], sort = true } }',
    "cookies": 'ignore_cookies = ["_ga"]',
    "types": 'default_ttl = "0s"\nrules = [{ type = "image/*", force_ttl = "10m" }]',
    "grace": 'stale_while_revalidate = "10m"',
    "outage": 'stale_if_error = "10m"',
    "tags": "tags_to_client = true",
}
ROUTES = "".join(
    f'[[route]]\npath = "/{name}/*"\nto = "origin"\n[route.cache]\n{settings}\n'
    for name, settings in SETTINGS.items()
)
LARGE_MIB = 30


@pytest.fixture(scope="module")
def cached(origin: Origin) -> Iterator[Daemon]:
    with serving(configuration(origin, routes=ROUTES)) as daemon:
        yield daemon
        assert daemon.stop() == 0
        daemon.check_clean()


def saying(*fields: str, status: str = "200 OK") -> Answering:
    """Answer each request with its number."""
    return lambda asked: Answer(b"%d" % asked.number, fields, status)


def soft_purge(daemon: Daemon, target: str) -> None:
    """Make what is stored stale, which otherwise only time does."""
    assert daemon.ask(target, "Proxyd-Purge: soft", method="PURGE").status == 200


@pytest.mark.parametrize(
    ("target", "answering"),
    [
        ("/forced/max-age", saying("Cache-Control: public, max-age=0")),
        ("/forced/nothing", saying()),
        ("/errors/missing", saying(status="404 Not Found")),
        ("/errors/broken", saying(status="500 Internal Server Error")),
        ("/ignoring/no-store", saying("Cache-Control: no-store")),
        ("/ignoring/cookie", saying("Cache-Control: public", "Set-Cookie: session=secret")),
        ("/types/picture", saying("Content-Type: image/png")),
    ],
)
def test_a_rule_keeps_what_is_not_kept_without_it(
    cached: Daemon, origin: Origin, target: str, answering: Answering
) -> None:
    plain = f"/plain{target}"
    origin.on(target, answering)
    origin.on(plain, answering)
    assert cached.ask(target).body == b"1"
    answers = on_both(cached, target)
    assert bodies(answers) == {b"1"}
    assert all(answer.get("set-cookie") is None for answer in answers)
    assert origin.count(target) == 1
    assert [cached.ask(plain).body for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("target", "answering"),
    [
        ("/forced/no-store", saying("Cache-Control: no-store")),
        ("/forced/private", saying("Cache-Control: private")),
        ("/forced/error", saying(status="500 Internal Server Error")),
        ("/errors/other", saying(status="403 Forbidden")),
        ("/types/page", saying("Content-Type: text/html")),
    ],
)
def test_a_rule_keeps_no_more_than_it_says(
    cached: Daemon, origin: Origin, target: str, answering: Answering
) -> None:
    origin.on(target, answering)
    assert [cached.ask(target).body for _ in range(3)] == [b"1", b"2", b"3"]


def test_who_has_the_cookie_bypasses_the_cache_in_both_directions(
    cached: Daemon, origin: Origin
) -> None:
    def greet(asked: Asked) -> Answer:
        return Answer(asked.fields.get("cookie", "nobody").encode())

    origin.on("/bypass/page", greet)
    assert cached.ask("/bypass/page", "Cookie: session=mira").body == b"session=mira"
    assert bodies(on_both(cached, "/bypass/page")) == {b"nobody"}
    answer = cached.ask("/bypass/page", "Cookie: a=b; session=theo")
    assert answer.body == b"a=b; session=theo"
    assert told(answer) == "proxyd; fwd=bypass; fwd-status=200"
    assert bodies(on_both(cached, "/bypass/page")) == {b"nobody"}
    assert origin.count("/bypass/page") == 3


def test_parameters_that_do_not_count_do_not_reach_the_application(
    cached: Daemon, origin: Origin
) -> None:
    first = cached.ask("/query/list?utm_source=mail&page=2&order=new")
    assert is_hit(cached.ask("/query/list?order=new&page=2&utm_campaign=x"))
    assert is_hit(cached.ask("/query/list?page=2&order=new"))
    assert not is_hit(cached.ask("/query/list?page=3&order=new"))
    asked = [it.target for it in origin.asked if it.target.startswith("/query/")]
    assert asked == ["/query/list?order=new&page=2", "/query/list?order=new&page=3"]
    assert first.body == b"/query/list?order=new&page=2 1"


def test_cookies_that_do_not_matter_are_not_seen_and_others_tell_people_apart(
    cached: Daemon, origin: Origin
) -> None:
    """The answer does not say that it is for all, so it is for those with the same cookies."""

    def greet(asked: Asked) -> Answer:
        return Answer(
            asked.fields.get("cookie", "nobody").encode(), ("Cache-Control: max-age=600",)
        )

    origin.on("/cookies/page", greet)
    assert cached.ask("/cookies/page", "Cookie: _ga=1").body == b"nobody"
    assert is_hit(cached.ask("/cookies/page", "Cookie: _ga=2"))
    assert cached.ask("/cookies/page", "Cookie: _ga=3; session=mira").body == b"session=mira"
    assert bodies(on_both(cached, "/cookies/page")) == {b"nobody"}
    mira = on_both(cached, "/cookies/page", "Cookie: session=mira; _ga=4")
    assert bodies(mira) == {b"session=mira"}


def test_a_purge_by_tag_takes_what_carries_it_from_both_workers(
    cached: Daemon, origin: Origin
) -> None:
    origin.on("/tags/one", saying(FOR_ALL, "Surrogate-Key: front posts"))
    origin.on("/tags/two", saying(FOR_ALL, "Cache-Tag: posts,people"))
    origin.on("/tags/three", saying(FOR_ALL, "xkey: people"))
    targets = ["/tags/one", "/tags/two", "/tags/three"]
    for target in targets:
        assert bodies(on_both(cached, target)) == {b"1"}
    assert cached.ask("/", "Cache-Tag: posts", method="PURGE").status == 200
    after = {target: bodies(on_both(cached, target)) for target in targets}
    assert after == {"/tags/one": {b"2"}, "/tags/two": {b"2"}, "/tags/three": {b"1"}}
    assert cached.ask("/tags/one").get("surrogate-key") == "front posts"
    origin.on("/untold", saying(FOR_ALL, "Surrogate-Key: secret"))
    assert [cached.ask("/untold").get("surrogate-key") for _ in range(2)] == [None, None]


def test_an_unsafe_request_invalidates_what_both_workers_hold(
    cached: Daemon, origin: Origin
) -> None:
    """RFC 9111 §4.4, RFC 9875."""

    def change(asked: Asked) -> Answer:
        group = 'Cache-Groups: "list"'
        if asked.method == "POST":
            group = 'Cache-Group-Invalidation: "list"'
        return Answer(b"%d" % asked.number, (FOR_ALL, group))

    origin.on("/items/", change)
    assert bodies(on_both(cached, "/items/1")) == {b"1"}
    assert bodies(on_both(cached, "/items/2")) == {b"1"}
    assert cached.ask("/items/2", method="POST", body=b"new").body == b"2"
    assert bodies(on_both(cached, "/items/2")) == {b"3"}
    assert bodies(on_both(cached, "/items/1")) == {b"2"}


def test_a_stale_answer_is_served_while_it_is_refreshed(cached: Daemon, origin: Origin) -> None:
    refresh = origin.gate()

    def answer(asked: Asked) -> Answer:
        return Answer(b"%d" % asked.number, hold=refresh if asked.number > 1 else None)

    origin.on("/grace/page", answer)
    assert cached.ask("/grace/page").body == b"1"
    soft_purge(cached, "/grace/page")
    assert bodies(on_both(cached, "/grace/page")) == {b"1"}
    wait_for(lambda: origin.count("/grace/page") == 2, "the refresh")
    refresh.open()
    wait_for(lambda: bodies(on_both(cached, "/grace/page")) == {b"2"}, "what is new")
    assert origin.count("/grace/page") == 2


def test_a_stale_answer_is_served_while_the_application_is_down(
    cached: Daemon, origin: Origin
) -> None:
    for target in ("/outage/page", "/usual/page"):
        origin.on(target, saying(FOR_ALL))
        assert cached.ask(target).body == b"1"
        soft_purge(cached, target)
    origin.stop()
    try:
        answers = on_both(cached, "/outage/page")
        assert bodies(answers) == {b"1"}
        assert {answer.status for answer in answers} == {200}
        assert cached.ask("/usual/page").status in {502, 503}
    finally:
        origin.start()
    wait_for(lambda: cached.ask("/outage/page").body == b"2", "the application to be back")


def test_an_error_does_not_replace_what_is_stored(cached: Daemon, origin: Origin) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.number == 2:
            return Answer(b"broken", (), "503 Service Unavailable")
        status = NOT_MODIFIED if "if-none-match" in asked.fields else "200 OK"
        return Answer(b"whole", (FOR_ALL, 'ETag: "1"'), status)

    origin.on("/outage/error", answer)
    assert cached.ask("/outage/error").body == b"whole"
    soft_purge(cached, "/outage/error")
    assert cached.ask("/outage/error").body == b"whole"
    assert origin.count("/outage/error") == 2
    again = cached.ask("/outage/error")
    assert again.body == b"whole"
    assert "fwd-status=304" in told(again)


def test_a_large_answer_is_joined_late_and_cut_while_it_streams(
    cached: Daemon, origin: Origin
) -> None:
    content = os.urandom(LARGE_MIB << 20)
    half = len(content) // 2
    rest = origin.gate()
    origin.on(
        "/large", lambda _: Answer([content[:half], rest, content[half:]], (FOR_ALL, 'ETag: "l"'))
    )
    with clients(cached, 4) as wires, cached.connect() as part:
        first, *late = wires
        first.get("/large")
        assert first.head().status == 200
        assert first.exactly(half) == content[:half]
        for wire in late:
            wire.get("/large")
        part.get("/large", f"Range: bytes={half - 1000}-{half + 999}")
        for wire in late:
            assert wire.head().get("content-length") == str(len(content))
            assert wire.exactly(half) == content[:half]
        head = part.head()
        assert head.status == 206
        assert head.get("content-range") == f"bytes {half - 1000}-{half + 999}/{len(content)}"
        assert part.exactly(1000) == content[half - 1000 : half]
        rest.open()
        assert part.exactly(1000) == content[half : half + 1000]
        for wire in wires:
            assert wire.exactly(len(content) - half) == content[half:]
    assert origin.count("/large") == 1
    wait_for(lambda: all(map(is_hit, on_both(cached, "/large", "Range: bytes=0-0"))), "all of it")
    check_ranges(cached, content)


def test_a_large_answer_that_both_workers_have_stored_is_asked_for_once(
    cached: Daemon, origin: Origin
) -> None:
    """Each of them writes a file, and the second takes the place of the first."""
    content = os.urandom(3 << 20)
    origin.on("/large/both", lambda _: Answer(content, (FOR_ALL,)))
    for _ in range(3):
        assert bodies(on_both(cached, "/large/both")) == {content}
    assert origin.count("/large/both") == 1


def check_ranges(cached: Daemon, content: bytes) -> None:
    """Ask for parts of what is stored. RFC 9110 §14."""
    size = len(content)
    for wanted, first, end in (
        ("0-0", 0, 1),
        ("65530-131080", 65530, 131081),
        ("-100", size - 100, size),
        (f"{size - 5}-", size - 5, size),
    ):
        for answer in on_both(cached, "/large", f"Range: bytes={wanted}"):
            assert answer.status == 206, told(answer)
            assert answer.body == content[first:end]
            assert answer.get("content-range") == f"bytes {first}-{end - 1}/{size}"
    assert cached.ask("/large", f"Range: bytes={size}-").status == 416
    assert cached.ask("/large", "Range: bytes=0-9", 'If-Range: "l"').status == 206
    assert cached.ask("/large", 'If-None-Match: "l"').status == 304
    other = cached.ask("/large", "Range: bytes=0-9", 'If-Range: "other"')
    assert other.status == 200
    assert other.body == content


@pytest.mark.timeout(180)
def test_a_reload_applies_the_rules_to_what_is_stored(origin: Origin) -> None:
    for target in ("/long", "/short"):
        origin.on(target, saying("Cache-Control: public, max-age=600"))
    origin.on("/private", saying("Cache-Control: private, max-age=600"))
    before = 'ignore = ["cache-control"]\nforce_ttl = "10m"'
    route = '[[route]]\npath = "/{}"\nto = "origin"\n[route.cache]\n{}\n'
    routes = route.format("private", before)
    with serving(configuration(origin, routes=routes), control=True) as daemon:
        for target in ("/long", "/short", "/private"):
            assert bodies(on_both(daemon, target)) == {b"1"}
        # And what says that those of /private are told apart by cookies.
        wait_for(lambda: len(cache_files(daemon)) == 4, "the files")
        routes = route.format("short", 'max_ttl = "1ms"') + route.format("private", "")
        text = configuration(origin, routes=routes)
        (daemon.folder / "proxy.toml").write_text(text)
        assert command(daemon, "reload").returncode == 0
        wait_for(lambda: only_one_generation(daemon), "the end of the workers from before")
        assert "stale for" in command(daemon, "explain", "http://proxyd.test/short").stdout
        assert bodies(on_both(daemon, "/long")) == {b"1"}
        assert daemon.ask("/short").body == b"2"
        assert [daemon.ask("/private").body for _ in range(2)] == [b"2", b"3"]
        assert daemon.stop() == 0
