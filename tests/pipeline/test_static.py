"""What a client gets from files: bytes, fields and statuses. RFC 9110."""

import asyncio
import os
import zlib
from email import message_from_bytes
from email.utils import formatdate
from pathlib import Path

import brotli
import pytest

from proxy.errors import (
    HttpError,
    MethodNotAllowedError,
    NotFoundError,
    OverloadedError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
)
from proxy.files.catalog import ATTEMPTS, Catalog
from proxy.files.memory import FileMemory
from proxy.files.options import CatalogOptions
from proxy.files.safe_open import OpenFile
from proxy.message import FieldLine, Fields, Request, Response
from proxy.pipeline.exchange import Exchange, Peer, Step, Wait
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route
from proxy.pipeline.static import static

TEXT = b" ".join(b"line %d of %d" % (number, number * 7919) for number in range(400))
MODIFIED = 1_700_000_000
PICTURE = bytes(range(256)) * 20


class Answer:
    """A response with its body read, as a client would see it."""

    def __init__(self, response: Response, body: bytes) -> None:
        self.status = response.status
        self.fields = Fields(response.fields)
        self.body = body
        self.response = response

    def __getitem__(self, name: bytes) -> bytes | None:
        return self.fields.get(name)


class Taker:
    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed(self, data: bytes) -> None:
        self.chunks.append(data)

    def finish(self, _trailers: Fields | None) -> None:
        self.ended.set_result(None)

    def abort(self, error: Exception) -> None:
        self.ended.set_exception(error)


class Files:
    """A route for files below `root`, and a client to ask it."""

    def __init__(self, root: Path, path: bytes = b"/static/*", **options: object) -> None:
        self.catalog = Catalog(root, CatalogOptions(**options), FileMemory(1 << 24))  # type: ignore[arg-type]
        self.route = Route("files", static, path)
        self.route.catalog = self.catalog
        self.waited = False

    async def ask(self, path: bytes, *fields: FieldLine, method: bytes = b"GET") -> Answer:
        """Return what static answers; raises what it raises."""
        path, mark, query = path.partition(b"?")
        peer = Peer("192.0.2.1", 1, "192.0.2.2", 80, b"http", False)
        exchange = Exchange(None, None, peer, 0.0)  # type: ignore[arg-type]
        exchange.route = self.route
        exchange.request = Request(
            method, path, 1, Fields(fields), path, query if mark else None, b"h", b"h"
        )
        step: Step | Wait | None = static(exchange)
        self.waited = isinstance(step, Wait)
        if isinstance(step, Wait):
            step = await step.work
        assert step is respond
        response = exchange.response
        assert response is not None
        body = response.body
        if body is None or isinstance(body, bytes):
            return Answer(response, body or b"")
        taker = Taker()
        body.start(taker)
        await taker.ended
        received = b"".join(taker.chunks)
        assert body.length == len(received)
        return Answer(response, received)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in {
        "app.js": TEXT,
        "app.3f2a9c1b.js": TEXT,
        "picture.png": PICTURE,
        "empty.txt": b"",
        "index.html": b"<h1>home</h1>",
        "docs/index.html": b"<h1>docs</h1>",
        "bare/file.txt": b"in a folder",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (MODIFIED, MODIFIED))
    return tmp_path


@pytest.fixture
def files(root: Path) -> Files:
    return Files(root)


@pytest.fixture(params=["in memory", "streamed"])
def both(request: pytest.FixtureRequest, root: Path) -> Files:
    """The same files, held in memory or streamed from the disk."""
    return Files(root, small_file_bytes=1 << 20 if request.param == "in memory" else 10)


# The whole of it


async def test_a_file_comes_with_its_description(both: Files) -> None:
    answer = await both.ask(b"/static/picture.png")
    assert answer.status == 200
    assert answer.body == PICTURE
    assert answer[b"content-type"] == b"image/png"
    assert answer[b"last-modified"] == formatdate(MODIFIED, usegmt=True).encode()
    assert answer[b"accept-ranges"] == b"bytes"
    assert answer[b"cache-control"] == b"no-cache"
    assert (answer[b"etag"] or b"").startswith(b'"')
    assert answer[b"vary"] is None
    assert answer[b"content-length"] is None  # the wire protocol writes it


async def test_a_file_in_memory_is_answered_at_once_with_the_same_response(files: Files) -> None:
    first = await files.ask(b"/static/picture.png")
    assert files.waited
    second = await files.ask(b"/static/picture.png")
    assert not files.waited
    assert second.response is first.response


async def test_head_has_the_fields_and_the_length_without_the_body(both: Files) -> None:
    whole = await both.ask(b"/static/picture.png")
    head = await both.ask(b"/static/picture.png", method=b"HEAD")
    assert not both.waited
    assert head.status == 200
    assert head.response.body is None
    assert head.response.content_length == len(PICTURE)
    assert head.fields == whole.fields


async def test_an_empty_file_is_an_answer(both: Files) -> None:
    answer = await both.ask(b"/static/empty.txt")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.response.body == b""


async def test_fingerprinted_files_are_immutable(files: Files) -> None:
    answer = await files.ask(b"/static/app.3f2a9c1b.js")
    assert answer[b"cache-control"] == b"public, max-age=31536000, immutable"


async def test_no_cache_control_can_be_asked_for(root: Path) -> None:
    answer = await Files(root, cache_control="").ask(b"/static/app.js")
    assert answer[b"cache-control"] is None


async def test_the_routes_headers_are_on_every_answer(root: Path) -> None:
    files = Files(root, headers=((b"X-Frame-Options", b"DENY"), (b"Cache-Control", b"private")))
    etag = (await files.ask(b"/static/app.js"))[b"etag"] or b""
    for answer in (
        await files.ask(b"/static/app.js"),
        await files.ask(b"/static/app.js", method=b"HEAD"),
        await files.ask(b"/static/app.js", (b"If-None-Match", etag)),
        await files.ask(b"/static/app.js", (b"Range", b"bytes=0-1")),
        await files.ask(b"/static/docs"),
    ):
        assert answer[b"x-frame-options"] == b"DENY"
        assert answer[b"cache-control"] == b"private"
    options = await files.ask(b"/static/app.js", method=b"OPTIONS")
    assert options[b"x-frame-options"] == b"DENY"


# Codings


@pytest.mark.parametrize(
    ("accept", "coding"),
    [(b"gzip, deflate, br, zstd", b"br"), (b"gzip", b"gzip"), (b"zstd", b"zstd")],
)
async def test_text_is_coded_for_those_who_can_read_it(
    files: Files, accept: bytes, coding: bytes
) -> None:
    answer = await files.ask(b"/static/app.js", (b"Accept-Encoding", accept))
    plain = await files.ask(b"/static/app.js")
    assert answer[b"content-encoding"] == coding
    assert answer[b"vary"] == plain[b"vary"] == b"Accept-Encoding"
    assert plain[b"content-encoding"] is None
    assert plain.body == TEXT
    assert answer[b"etag"] != plain[b"etag"]
    assert (answer[b"etag"] or b"").endswith(b"-" + coding + b'"')
    assert answer[b"content-type"] == b"text/javascript; charset=utf-8"
    if coding == b"br":
        assert brotli.decompress(answer.body) == TEXT
    if coding == b"gzip":
        assert zlib.decompress(answer.body, 31) == TEXT


async def test_a_coded_head_tells_the_coded_length(files: Files) -> None:
    ask = (b"Accept-Encoding", b"br")
    whole = await files.ask(b"/static/app.js", ask)
    head = await files.ask(b"/static/app.js", ask, method=b"HEAD")
    assert head.response.content_length == len(whole.body)


async def test_pictures_are_not_coded_and_do_not_vary(files: Files) -> None:
    answer = await files.ask(b"/static/picture.png", (b"Accept-Encoding", b"br"))
    assert answer[b"content-encoding"] is None
    assert answer[b"vary"] is None


async def test_a_streamed_sibling_is_used(root: Path) -> None:
    (root / "app.js.gz").write_bytes(zlib.compress(TEXT, 9, 31))
    files = Files(root, small_file_bytes=10)
    answer = await files.ask(b"/static/app.js", (b"Accept-Encoding", b"br, gzip"))
    assert answer[b"content-encoding"] == b"gzip"
    assert zlib.decompress(answer.body, 31) == TEXT
    plain = await files.ask(b"/static/app.js")
    assert plain.body == TEXT
    assert plain[b"vary"] == b"Accept-Encoding"


# Conditions: RFC 9110 §13


async def test_an_unchanged_file_is_a_304(both: Files) -> None:
    whole = await both.ask(b"/static/picture.png")
    etag, date = whole[b"etag"] or b"", whole[b"last-modified"] or b""
    for fields in (
        [(b"If-None-Match", etag)],
        [(b"If-None-Match", b"W/" + etag)],
        [(b"If-None-Match", b"*")],
        [(b"If-Modified-Since", date)],
        [(b"If-None-Match", etag), (b"Range", b"bytes=0-1")],
    ):
        for method in (b"GET", b"HEAD"):
            answer = await both.ask(b"/static/picture.png", *fields, method=method)
            assert answer.status == 304
            assert answer.response.body is None
            assert answer[b"etag"] == etag
            assert answer[b"cache-control"] == b"no-cache"
            assert answer[b"content-type"] is None


async def test_a_304_names_what_it_varies_by(files: Files) -> None:
    ask = (b"Accept-Encoding", b"br")
    etag = (await files.ask(b"/static/app.js", ask))[b"etag"] or b""
    answer = await files.ask(b"/static/app.js", ask, (b"If-None-Match", etag))
    assert answer.status == 304
    assert answer[b"vary"] == b"Accept-Encoding"
    other = await files.ask(b"/static/app.js", (b"If-None-Match", etag))
    assert other.status == 200  # another coding is another representation


async def test_a_changed_file_is_given_whole(both: Files) -> None:
    for fields in (
        [(b"If-None-Match", b'"x"')],
        [(b"If-Modified-Since", formatdate(MODIFIED - 1, usegmt=True).encode())],
    ):
        answer = await both.ask(b"/static/picture.png", *fields)
        assert (answer.status, answer.body) == (200, PICTURE)


@pytest.mark.parametrize(
    "condition",
    [
        (b"If-Match", b'"x"'),
        (b"If-Unmodified-Since", formatdate(MODIFIED - 1, usegmt=True).encode()),
    ],
)
async def test_a_failed_precondition_is_a_412(both: Files, condition: FieldLine) -> None:
    with pytest.raises(PreconditionFailedError):
        await both.ask(b"/static/picture.png", condition)


# Ranges: RFC 9110 §14


async def test_a_range_is_a_206(both: Files) -> None:
    answer = await both.ask(b"/static/picture.png", (b"Range", b"bytes=100-299"))
    assert answer.status == 206
    assert answer.body == PICTURE[100:300]
    assert answer[b"content-range"] == b"bytes 100-299/%d" % len(PICTURE)
    assert answer[b"content-type"] == b"image/png"
    assert answer[b"etag"] == (await both.ask(b"/static/picture.png"))[b"etag"]


async def test_several_ranges_are_parts_of_one_body(both: Files) -> None:
    answer = await both.ask(b"/static/picture.png", (b"Range", b"bytes=0-9,1000-1999,-5"))
    assert answer.status == 206
    kind = answer[b"content-type"] or b""
    assert kind.startswith(b"multipart/byteranges; boundary=")
    assert answer[b"content-range"] is None
    parsed = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + answer.body)
    parts = [
        (part["Content-Type"], part["Content-Range"])  # type: ignore[index]
        for part in parsed.get_payload()
    ]
    size = len(PICTURE)
    assert parts == [
        ("image/png", f"bytes 0-9/{size}"),
        ("image/png", f"bytes 1000-1999/{size}"),
        ("image/png", f"bytes {size - 5}-{size - 1}/{size}"),
    ]
    for content in (PICTURE[:10], PICTURE[1000:2000], PICTURE[-5:]):
        assert b"\r\n\r\n" + content + b"\r\n--" in answer.body


@pytest.mark.parametrize("wanted", [b"items=0-1", b"bytes=x", b"bytes=5-1"])
async def test_a_range_that_cannot_be_read_is_ignored(both: Files, wanted: bytes) -> None:
    answer = await both.ask(b"/static/picture.png", (b"Range", wanted))
    assert (answer.status, answer.body) == (200, PICTURE)


@pytest.mark.parametrize("wanted", [b"bytes=99999-", b"bytes=-0", b"bytes=0-,0-,0-"])
async def test_a_range_that_cannot_be_given_is_a_416(both: Files, wanted: bytes) -> None:
    with pytest.raises(RangeNotSatisfiableError) as caught:
        await both.ask(b"/static/picture.png", (b"Range", wanted))
    assert caught.value.fields == ((b"Content-Range", b"bytes */%d" % len(PICTURE)),)


async def test_head_knows_no_ranges(both: Files) -> None:
    answer = await both.ask(b"/static/picture.png", (b"Range", b"bytes=0-1"), method=b"HEAD")
    assert answer.status == 200
    assert answer.response.content_length == len(PICTURE)


async def test_if_range_gives_the_part_only_of_the_same_file(both: Files) -> None:
    whole = await both.ask(b"/static/picture.png")
    wanted = (b"Range", b"bytes=0-9")
    for validator, status in (
        (whole[b"etag"] or b"", 206),
        (whole[b"last-modified"] or b"", 206),
        (b'"other"', 200),
        (b"W/" + (whole[b"etag"] or b""), 200),
        (formatdate(MODIFIED + 1, usegmt=True).encode(), 200),
    ):
        answer = await both.ask(b"/static/picture.png", wanted, (b"If-Range", validator))
        assert answer.status == status


async def test_a_range_is_of_the_coding_that_the_client_gets(files: Files) -> None:
    ask = (b"Accept-Encoding", b"gzip")
    whole = await files.ask(b"/static/app.js", ask)
    part = await files.ask(
        b"/static/app.js", ask, (b"Range", b"bytes=20-"), (b"If-Range", whole[b"etag"] or b"")
    )
    assert part.status == 206
    assert part.body == whole.body[20:]
    assert part[b"content-encoding"] == b"gzip"
    several = await files.ask(b"/static/app.js", ask, (b"Range", b"bytes=0-1,100-101"))
    assert (several.status, several.body) == (200, whole.body)


# Paths


async def test_a_folder_is_its_index(files: Files) -> None:
    assert (await files.ask(b"/static/docs/")).body == b"<h1>docs</h1>"
    assert (await files.ask(b"/static/")).body == b"<h1>home</h1>"
    await files.ask(b"/static/")
    assert not files.waited


@pytest.mark.parametrize(
    ("path", "location"),
    [
        (b"/static/docs", b"/static/docs/"),
        (b"/static/docs?a=1&b=//x", b"/static/docs/?a=1&b=//x"),
        (b"/static/docs?", b"/static/docs/?"),
        (b"/static", b"/static/"),
    ],
)
async def test_a_folder_without_its_slash_is_a_redirect(
    files: Files, path: bytes, location: bytes
) -> None:
    answer = await files.ask(path)
    assert answer.status == 301
    assert answer[b"location"] == location


@pytest.mark.parametrize("path", [b"/\\evil.example", b"/\\\\evil.example"])
async def test_a_redirect_never_leads_to_another_host(root: Path, path: bytes) -> None:
    (root / os.fsdecode(path[1:])).mkdir()
    (root / os.fsdecode(path[1:]) / "index.html").write_text("x")
    location = (await Files(root, b"/*").ask(path))[b"location"] or b""
    assert location.startswith(b"/%5C")
    assert b"\\" not in location


@pytest.mark.parametrize(
    "path",
    [
        b"//evil.example",
        b"//evil.example/",
        b"//docs",
        b"/bare",
        b"/bare/",
        b"/nothing",
        b"/app.js/",
        b"/..%2f..%2fetc%2fpasswd",
        b"/%2e%2e/%2e%2e/etc/passwd",
        b"//etc/passwd",
        b"/.git/config",
        b"/app.js%00.html",
    ],
)
async def test_what_is_not_given_is_not_found(root: Path, path: bytes) -> None:
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    with pytest.raises(NotFoundError):
        await Files(root, b"/*").ask(path)


async def test_well_known_is_given(root: Path) -> None:
    (root / ".well-known").mkdir()
    (root / ".well-known" / "security.txt").write_text("Contact: x")
    answer = await Files(root, b"/*").ask(b"/.well-known/security.txt")
    assert answer.body == b"Contact: x"


async def test_a_route_for_one_path_gives_the_file_of_that_name(root: Path) -> None:
    files = Files(root, b"/assets/picture.png")
    assert (await files.ask(b"/assets/picture.png")).body == PICTURE
    await files.ask(b"/assets/picture.png")
    assert not files.waited


async def test_fallbacks_serve_a_single_page_application(root: Path) -> None:
    files = Files(root, b"/*", try_files=("{path}", "/index.html"))
    assert (await files.ask(b"/picture.png")).body == PICTURE
    answer = await files.ask(b"/deep/link.3f2a9c1b.js")
    assert (answer.status, answer.body) == (200, b"<h1>home</h1>")
    assert answer[b"cache-control"] == b"no-cache"


async def test_a_listing_is_a_page_that_runs_nothing(root: Path) -> None:
    files = Files(root, listing=True)
    answer = await files.ask(b"/static/bare/")
    assert answer[b"content-type"] == b"text/html; charset=utf-8"
    assert answer[b"content-security-policy"] == b"default-src 'none'; style-src 'unsafe-inline'"
    assert b'<a href="file.txt">' in answer.body
    assert b"/static/bare/" in answer.body
    assert b'href="../"' in answer.body
    head = await files.ask(b"/static/bare/", method=b"HEAD")
    assert head.response.body is None
    assert head.response.content_length == len(answer.body)
    (root / "index.html").unlink()
    assert b'href="../"' not in (await files.ask(b"/static/")).body


# Methods


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"get", b"PROPFIND"])
async def test_other_methods_are_refused_with_allow(files: Files, method: bytes) -> None:
    with pytest.raises(MethodNotAllowedError) as caught:
        await files.ask(b"/static/app.js", method=method)
    assert caught.value.fields == ((b"Allow", b"GET, HEAD, OPTIONS"),)


async def test_options_names_the_methods(files: Files) -> None:
    answer = await files.ask(b"/static/app.js", method=b"OPTIONS")
    assert answer.status == 204
    assert answer[b"allow"] == b"GET, HEAD, OPTIONS"


async def test_a_route_without_files_is_a_mistake_of_ours(files: Files) -> None:
    files.route.catalog = None
    with pytest.raises(RuntimeError):
        await files.ask(b"/static/app.js")


# Change


async def test_a_streamed_file_that_was_replaced_is_given_in_its_new_version(root: Path) -> None:
    files = Files(root, small_file_bytes=10)
    before = await files.ask(b"/static/picture.png")
    (root / "new").write_bytes(PICTURE[::-1])
    (root / "new").replace(root / "picture.png")
    answer = await files.ask(b"/static/picture.png")
    assert answer.body == PICTURE[::-1]
    assert answer[b"etag"] != before[b"etag"]


async def test_a_streamed_file_that_becomes_small_is_answered_from_memory(root: Path) -> None:
    files = Files(root, small_file_bytes=100)
    await files.ask(b"/static/picture.png")
    (root / "picture.png").write_bytes(b"small")
    assert (await files.ask(b"/static/picture.png")).body == b"small"


async def test_a_streamed_file_that_never_rests_is_refused_for_now(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(root, small_file_bytes=10)
    opens = []

    async def moved_on(_representation: object) -> OpenFile | None:
        opens.append(1)
        return None

    monkeypatch.setattr(files.catalog, "open", moved_on)
    with pytest.raises(OverloadedError, match="faster than it can be sent"):
        await files.ask(b"/static/picture.png")
    assert len(opens) == ATTEMPTS


async def test_a_streamed_file_that_is_written_to_breaks_off(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = root / "large.bin"
    large.write_bytes(bytes(1 << 20))
    files = Files(root, small_file_bytes=10)
    feed = Taker.feed

    def feed_and_write(taker: Taker, data: bytes) -> None:
        feed(taker, data)
        if len(taker.chunks) == 1:
            large.write_bytes(b"x" * (1 << 20))
            os.utime(large, (1, 1))

    monkeypatch.setattr(Taker, "feed", feed_and_write)
    with pytest.raises(HttpError, match="changed while it was sent"):
        await files.ask(b"/static/large.bin")
