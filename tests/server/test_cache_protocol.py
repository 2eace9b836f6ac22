"""Corners of RFC 9111 on the wire: what is kept, for whom, and what makes it go. Two workers."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.process.running import wait_for
from tests.server.caching import CONFIGURATION, configuration, is_hit, on_both, origin, told
from tests.server.daemon import Daemon, serving
from tests.server.origin import FOR_ALL, Answer, Answering, Asked, Origin, digest
from tests.server.upstream import Upstream

__all__ = ["origin"]  # a fixture

YEARS_BEFORE = "Wed, 21 Oct 2015 07:28:00 GMT"
# Of another second each time: what changes without it is the same to whoever asks.
MODIFIED = "Last-Modified: Wed, 21 Oct 2015 07:28:0{number} GMT"


@pytest.fixture(scope="module")
def cached(origin: Origin) -> Iterator[Daemon]:
    with serving(configuration(origin)) as daemon:
        yield daemon
        assert daemon.stop() == 0
        daemon.check_clean()


def saying(*fields: str, status: str = "200 OK") -> Answering:
    """Answer each request with its number."""

    def answer(asked: Asked) -> Answer:
        lines = [line.replace("{number}", str(asked.number)) for line in fields]
        return Answer(b"%d" % asked.number, lines, status)

    return answer


def path_for(what: str, *case: object) -> str:
    """Return a path of its own for each case."""
    return f"/{what}/{digest(repr(case).encode())[:12]}"


@pytest.mark.parametrize(
    "fields",
    [
        ("Cache-Control: public", "Cache-Control: max-age=600"),
        ("Cache-Control: max-age=600, max-age=500",),
        ('Cache-Control: max-age="600"',),
        ("cache-CONTROL:  MAX-AGE=600 ,, x-new=7",),
        ("Cache-Control: max-age=99999999999999999999",),
        ("Cache-Control: s-maxage=600, max-age=0",),
        ("Cache-Control: max-age=600", f"Expires: {YEARS_BEFORE}"),
        ("Cache-Control: max-age=600", "Pragma: no-cache"),
        ("Cache-Control: no-store, must-understand, max-age=600",),
        ('Cache-Control: max-age=600, private="X-Name"',),
        ("CDN-Cache-Control: max-age=600", "Cache-Control: no-store"),
        ("Expires: Fri, 31 Dec 2100 23:59:59 GMT",),
        ("Expires: Friday, 31-Dec-70 23:59:59 GMT", "Cache-Control: max-age=600"),
        (MODIFIED,),
    ],
)
def test_an_answer_is_kept_however_it_says_so(
    cached: Daemon, origin: Origin, fields: tuple[str, ...]
) -> None:
    target = path_for("kept", fields)
    origin.on(target, saying(*fields))
    cached.ask(target)
    messages = on_both(cached, target)
    assert all(map(is_hit, messages)), told(messages[0])
    assert origin.count(target) == 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Cache-Control: max-age=600", "Cache-Control: no-store"), "200 OK"),
        (("Cache-Control: max-age=600, max-age=0",), "200 OK"),
        (("Cache-Control: max-age=0, max-age=600",), "200 OK"),
        (("Cache-Control: max-age=-5",), "200 OK"),
        (("Cache-Control: max-age=1.5",), "200 OK"),
        (("Cache-Control: max-age=soon", MODIFIED), "200 OK"),
        (("Expires: 0", MODIFIED), "200 OK"),
        ((f"Expires: {YEARS_BEFORE}",), "200 OK"),
        (("Cache-Control: max-age=600, private",), "200 OK"),
        (("Cache-Control: max-age=600, no-cache",), "200 OK"),
        (("Cache-Control: max-age=600, must-understand",), "299 Own"),
        (("Cache-Control: max-age=600", "Vary: Accept", "Vary: *"), "200 OK"),
        (("Cache-Control: max-age=600", "Set-Cookie: a=b"), "200 OK"),
        (("Cache-Control: max-age=600", "Age: 700"), "200 OK"),
        ((FOR_ALL,), "429 Too Many Requests"),
    ],
)
def test_an_answer_is_not_used_again_unasked(
    cached: Daemon, origin: Origin, fields: tuple[str, ...], status: str
) -> None:
    target = path_for("asked", fields, status)
    origin.on(target, saying(*fields, status=status))
    assert [cached.ask(target).body for _ in range(3)] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("status", ["299 Own", "410 Gone", "503 Service Unavailable"])
def test_any_final_status_that_states_a_lifetime_is_kept(
    cached: Daemon, origin: Origin, status: str
) -> None:
    target = f"/status/{status[:3]}"
    origin.on(target, saying("Cache-Control: max-age=600", status=status))
    cached.ask(target)
    for message in on_both(cached, target):
        assert is_hit(message)
        assert message.start == f"HTTP/1.1 {status}"


def test_a_client_that_wants_nothing_else_gets_what_is_stored_or_a_504(
    cached: Daemon, origin: Origin
) -> None:
    only = "Cache-Control: only-if-cached"
    assert cached.ask("/only", only).status == 504
    assert origin.count("/only") == 0
    cached.ask("/only")
    on_both(cached, "/only")  # now each worker has it
    assert {message.status for message in on_both(cached, "/only", only)} == {200}
    assert cached.ask("/only", f"{only}, min-fresh=100000").status == 504
    assert origin.count("/only") == 1


@pytest.mark.parametrize(
    ("line", "hit"),
    [
        ("Cache-Control: no-cache", False),
        ("Cache-Control: max-age=0", False),
        ("Cache-Control: min-fresh=100000", False),
        ("Cache-Control: no-store", True),
        ("Pragma: no-cache", False),
        ("Cache-Control: max-age=100, max-age=0", False),
        ("Cache-Control: max-stale", True),
        ("Cache-Control: min-fresh=100", True),
        ("Cache-Control: max-age=100, x-new", True),
    ],
)
def test_a_client_says_whether_what_is_stored_will_do(
    cached: Daemon, origin: Origin, line: str, hit: bool
) -> None:
    target = path_for("wish", line)
    origin.on(target, saying(FOR_ALL))
    cached.ask(target)
    assert is_hit(cached.ask(target, line)) is hit
    assert is_hit(cached.ask(target))


def test_pragma_does_not_count_beside_cache_control(cached: Daemon) -> None:
    cached.ask("/pragma")
    assert is_hit(cached.ask("/pragma", "Pragma: no-cache", "Cache-Control: max-age=100"))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (('ETag: "a"', "Content-Length: 5", "Cache-Control: public, max-age=900"), True),
        (('ETag: "b"', "Content-Length: 5", FOR_ALL), False),
        (('ETag: "a"', "Content-Length: 6", FOR_ALL), False),
    ],
    ids=["the same", "another validator", "another length"],
)
def test_a_head_updates_what_is_stored_or_makes_it_stale(said: tuple[str, ...], kept: bool) -> None:
    """RFC 9111 §4.3.5; only a HEAD that goes upstream can, so the client wants it validated."""
    with closing(Upstream()) as upstream, serving(before(upstream)) as daemon:
        ask_and_answer(daemon, upstream, 'ETag: "a"', FOR_ALL)
        with daemon.connect() as wire:
            wire.get("/head", "Cache-Control: no-cache", method="HEAD")
            asked = upstream.connections[-1]
            assert asked.message().start.startswith("HEAD ")
            asked.send("\r\n".join(["HTTP/1.1 200 OK", *said, "", ""]).encode())
            assert wire.message(bodiless=True).status == 200
            wire.get("/head")
            if kept:
                message = wire.message()
                assert is_hit(message)
                assert message.get("cache-control") == "public, max-age=900"
            else:
                expected = asked.message()
                assert expected.start.startswith("GET ")
                asked.answer(b"fresh", FOR_ALL)
                assert wire.message().body == b"fresh"
        upstream.forget()


def before(upstream: Upstream) -> str:
    """Return the configuration of one worker before an upstream that a test answers for."""
    text = CONFIGURATION.replace("workers = 2", "workers = 1")
    for name, value in (
        ("server", ""),
        ("cache", ""),
        ("routes", ""),
        ("port", str(upstream.port)),
    ):
        text = text.replace("{" + name + "}", value)
    return text


def ask_and_answer(daemon: Daemon, upstream: Upstream, *lines: str) -> None:
    with daemon.connect() as wire:
        wire.get("/head")
        asked = upstream.accept()
        asked.message()
        asked.answer(b"12345", *lines)
        assert wire.message().body == b"12345"


def test_what_broke_off_is_completed_with_the_part_that_was_missing() -> None:
    """RFC 9111 §3.3, §3.4."""
    content = bytes(range(256)) * 1000
    here = 200_000
    head = f'ETag: "a"\r\nContent-Length: {len(content)}\r\n{FOR_ALL}\r\nAccept-Ranges: bytes'
    with closing(Upstream()) as upstream, serving(before(upstream)) as daemon:
        with daemon.connect() as wire:
            wire.get("/part")
            asked = upstream.accept()
            asked.message()
            asked.send(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + content[:here])
            assert wire.head().status == 200
            assert wire.exactly(here) == content[:here]
            asked.close()
            assert wire.ended()
        with daemon.connect() as wire:
            wire.get("/part")
            asked = upstream.accept()
            request = asked.message()
            assert request.get("range") == f"bytes={here}-{len(content) - 1}"
            assert request.get("if-range") == '"a"'
            asked.answer(
                content[here:],
                'ETag: "a"',
                FOR_ALL,
                f"Content-Range: bytes {here}-{len(content) - 1}/{len(content)}",
                status="206 Partial Content",
            )
            message = wire.message()
            assert (message.status, message.body) == (200, content)
            wire.get("/part", f"Range: bytes={here - 2}-{here + 1}")
            message = wire.message()
            assert is_hit(message)
            assert (message.status, message.body) == (206, content[here - 2 : here + 2])
        upstream.forget()


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("206 Partial Content", "Content-Range: bytes 0-4/10"),
        ("304 Not Modified", 'ETag: "a"'),
    ],
)
def test_what_only_part_of_an_answer_is_never_whole(
    cached: Daemon, origin: Origin, status: str, answer: str
) -> None:
    """Nobody asked for it, so nobody knows what it is part of."""
    target = f"/odd/{status[:3]}"
    origin.on(target, lambda _asked: Answer(b"01234", (FOR_ALL, answer), status))
    for _ in range(2):
        assert not is_hit(cached.ask(target))
    assert origin.count(target) == 2


def test_a_purge_from_an_address_that_is_not_named_is_refused(origin: Origin) -> None:
    text = configuration(origin).replace("127.0.0.0/8", "192.0.2.0/24")
    with serving(text) as daemon:
        daemon.ask("/refused")
        for target in ("/refused", "/*"):
            assert daemon.ask(target, method="PURGE").status == 403
        assert daemon.ask("/", "Proxyd-Purge: all", method="PURGE").status == 403
        assert daemon.ask("/", "Cache-Tag: a", method="PURGE").status == 403
        # Nor can somebody say that he is somebody else.
        for line in ("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"):
            assert daemon.ask("/refused", line, method="PURGE").status == 403
        assert all(map(is_hit, on_both(daemon, "/refused")))
        assert origin.count("/refused") == 1
        wait_for(lambda: "whom [cache] purge_from does not name" in daemon.log, "a reason")
        assert daemon.stop() == 0
        daemon.check_clean()


def test_a_purge_without_purge_from_is_a_method_like_any_other(origin: Origin) -> None:
    """The application may know it. It is not safe, so it invalidates. RFC 9111 §4.4."""
    text = configuration(origin).replace('purge_from = ["127.0.0.0/8"]', "")
    origin.on("/own-purge", lambda asked: Answer(asked.method.encode()))
    with serving(text) as daemon:
        assert daemon.ask("/own-purge").body == b"GET"
        assert daemon.ask("/own-purge", method="PURGE").body == b"PURGE"
        assert not is_hit(daemon.ask("/own-purge"))
        assert daemon.stop() == 0


def test_unsafe_requests_invalidate_what_their_answers_name(cached: Daemon, origin: Origin) -> None:
    """RFC 9111 §4.4: on this host only, and only when they worked out."""

    def change(asked: Asked) -> Answer:
        where = asked.fields.get("x-where", "")
        lines = [FOR_ALL, *([where] if where else [])]
        return Answer(b"%d" % asked.number, lines, asked.fields.get("x-status", "200 OK"))

    origin.on("/change/", change)
    names = {
        "/change/location": "Location: /change/location",
        "/change/content": "Content-Location: http://proxyd.test/change/content",
        "/change/elsewhere": "Location: http://other.test/change/elsewhere",
    }
    for target in (*names, "/change/failed"):
        cached.ask(target)
    for where in names.values():
        cached.ask("/change/form", f"X-Where: {where}", method="POST", body=b"x")
    cached.ask("/change/failed", "X-Status: 500 Oops", method="DELETE")
    hits = {target: is_hit(cached.ask(target)) for target in (*names, "/change/failed")}
    assert hits == {
        "/change/location": False,
        "/change/content": False,
        "/change/elsewhere": True,
        "/change/failed": True,
    }
