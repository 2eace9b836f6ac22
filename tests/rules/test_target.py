"""A target has one meaning, whatever its spelling, or is refused. RFC 9112 §3.2, RFC 3986."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequestError
from proxy.rules.target import (
    Target,
    as_applications_see,
    decode_path,
    parse_target,
    read_authority,
)


def path_of(target: bytes) -> bytes:
    return parse_target(b"GET", target, [b"a"], 1).path


# RFC 9112 §3.2.1 to §3.2.4.
@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/", Target(b"/", None, b"a", b"a", None)),
        (b"GET", b"/p?q=1", Target(b"/p", b"q=1", b"a", b"a", None)),
        (b"GET", b"/p?", Target(b"/p", b"", b"a", b"a", None)),
        (b"GET", b"/p?a?b/../%2", Target(b"/p", b"a?b/../%2", b"a", b"a", None)),
        (b"GET", b"/%20?%zz", Target(b"/%20", b"%zz", b"a", b"a", None)),
        (b"GET", b"//b/c", Target(b"//b/c", None, b"a", b"a", None)),
        (b"GET", b"/http://b/c", Target(b"/http://b/c", None, b"a", b"a", None)),
        (b"GET", b"http://B:80/c?d", Target(b"/c", b"d", b"b:80", b"b", b"http")),
        (b"GET", b"HTTPS://[::1]/", Target(b"/", None, b"[::1]", b"[::1]", b"https")),
        (b"GET", b"http://b", Target(b"/", None, b"b", b"b", b"http")),
        (b"GET", b"http://b?c", Target(b"/", b"c", b"b", b"b", b"http")),
        (b"GET", b"http://b/x/../%7ey", Target(b"/~y", None, b"b", b"b", b"http")),
        (b"OPTIONS", b"*", Target(b"*", None, b"a", b"a", None)),
        (b"OPTIONS", b"http://b", Target(b"*", None, b"b", b"b", b"http")),
        (b"OPTIONS", b"http://b/", Target(b"/", None, b"b", b"b", b"http")),
        (b"OPTIONS", b"http://b?c", Target(b"/", b"c", b"b", b"b", b"http")),
    ],
)
def test_each_form_of_target_is_read(method: bytes, target: bytes, expected: Target) -> None:
    assert parse_target(method, target, [b"a"], 1) == expected


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"a",
        b"a:80",
        b"?q",
        b"http:/b/",
        b"http://",
        b"http:///p",
        b"http://:80/",
        b"http://u@b/",
        b"http://u:p@b/",
        b"http://b:x/",
        b"http://b/#f",
        b"http://b#f",
        b"http://b/\n",
        b"ftp://b/",
        b"urn:b",
        b"/#f",
        b"/p?q#f",
        b"/a b",
        b"/a\x00",
        b"/a\t",
        b"/a\x7f",
        b"/a\n",
        b"/\xc3\xa9",
        b"/?\xc3\xa9",
        b"/? ",
        b"/%",
        b"/%4",
        b"/%4g",
        b"/%%41",
        b"/a%00",
        b"/%u0041",
    ],
)
def test_a_malformed_target_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_target(b"GET", target, [b"a"], 1)


# RFC 3986 §5.2.4, §6.2.2.
@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/./b", b"/a/b"),
        (b"/a/../b", b"/b"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/.", b"/a/b/"),
        (b"/..", b"/"),
        (b"/.", b"/"),
        (b"/../../a", b"/a"),
        (b"/a/b/c/./../../g", b"/a/g"),
        (b"/%2e%2e/a", b"/a"),
        (b"/a/%2E./b", b"/b"),
        (b"/a/.%2e/b", b"/b"),
        (b"/a/%2e", b"/a/"),
        (b"/a//../b", b"/a/b"),
        (b"/a//b/", b"/a//b/"),
        (b"/.a/..b/...", b"/.a/..b/..."),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/%41%7e%2d%5f", b"/A~-_"),
        (b"/%2f%2F%c3%a9%0a", b"/%2F%2F%C3%A9%0A"),
        (b"/%2e%2e%2fa", b"/..%2Fa"),
        (b"/%252e", b"/%252e"),
        (b"/\"<>[]\\^`{|}!$&'()*+,;=:@", b"/\"<>[]\\^`{|}!$&'()*+,;=:@"),
        (b"/a;p=1/..;/b", b"/a;p=1/..;/b"),
    ],
)
def test_a_path_gets_its_one_form(target: bytes, path: bytes) -> None:
    assert path_of(target) == path


PATHS = st.lists(
    st.sampled_from([b"/", b".", b"..", b"%2e", b"%2E", b"%2f", b"a", b"%41", b"%c3", b"~", b"%25"])
).map(lambda parts: b"/" + b"".join(parts))


@given(PATHS)
def test_the_one_form_of_a_path_has_no_other(path: bytes) -> None:
    once = path_of(path)
    assert path_of(once) == once
    assert once.startswith(b"/")
    assert not {b".", b".."}.intersection(once.split(b"/"))
    assert re.search(rb"%(?![0-9A-F]{2})|%7E|%2E|%41", once) is None


@given(st.binary(max_size=40))
def test_any_bytes_are_a_target_or_refused(data: bytes) -> None:
    try:
        target = parse_target(b"GET", b"/" + data, [b"a"], 1)
    except BadRequestError:
        return
    assert re.fullmatch(rb"/[\x21-\x7e]*", target.path)


# RFC 9110 §7.2, RFC 3986 §3.2.2.
@pytest.mark.parametrize(
    ("value", "authority", "host"),
    [
        (b"Example.COM", b"example.com", b"example.com"),
        (b"example.com.", b"example.com.", b"example.com."),
        (b"example.com:80", b"example.com:80", b"example.com"),
        (b"example.com:0", b"example.com:0", b"example.com"),
        (b"example.com:65535", b"example.com:65535", b"example.com"),
        (b"example.com:", b"example.com", b"example.com"),
        (b"my_app-1.local", b"my_app-1.local", b"my_app-1.local"),
        (b"127.0.0.1:8080", b"127.0.0.1:8080", b"127.0.0.1"),
        (b"[::1]", b"[::1]", b"[::1]"),
        (b"[2001:DB8::A]:8443", b"[2001:db8::a]:8443", b"[2001:db8::a]"),
        (b"[::ffff:1.2.3.4]", b"[::ffff:1.2.3.4]", b"[::ffff:1.2.3.4]"),
        (b"a" * 255, b"a" * 255, b"a" * 255),
    ],
)
def test_a_host_is_read_in_lower_case(value: bytes, authority: bytes, host: bytes) -> None:
    assert read_authority(value) == (authority, host)
    assert parse_target(b"GET", b"/", [value], 1)[2:4] == (authority, host)


@pytest.mark.parametrize(
    "value",
    [
        b"a b",
        b" a",
        b"a/b",
        b"a@b",
        b"a,b",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"a%41",
        b"a\x00",
        b"a\n",
        b"\xc3\xa9.example",
        b":80",
        b"a:b",
        b"a:-1",
        b"a:+1",
        b"a: 1",
        b"a:1:2",
        b"a:65536",
        b"a:000080",
        b"::1",
        b"[::1",
        b"::1]",
        b"[]",
        b"[:::1]",
        b"[1.2.3.4]",
        b"[::1%25eth0]",
        b"[v1.a]",
        b"[::1]a",
        b"[::1]:x",
        b"a" * 256,
    ],
)
def test_a_malformed_host_is_refused_in_every_version(value: bytes) -> None:
    for minor in (0, 1):
        with pytest.raises(BadRequestError):
            parse_target(b"GET", b"/", [value], minor)
    with pytest.raises(BadRequestError):
        parse_target(b"GET", b"http://b/", [value], 1)


@pytest.mark.parametrize("values", [[], [b""], [b"a", b"a"], [b"a", b""], [b"", b""]])
def test_http_1_1_has_exactly_one_host(values: list[bytes]) -> None:
    for target in (b"/", b"http://b/"):
        with pytest.raises(BadRequestError):
            parse_target(b"GET", target, values, 1)


@pytest.mark.parametrize("values", [[], [b""]])
def test_http_1_0_may_name_no_host(values: list[bytes]) -> None:
    assert parse_target(b"GET", b"/p", values, 0) == Target(b"/p", None, b"", b"", None)


def test_http_1_0_has_not_two_hosts() -> None:
    with pytest.raises(BadRequestError):
        parse_target(b"GET", b"/", [b"a", b"a"], 0)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/a/b", "/a/b"),
        (b"/a%20b", "/a b"),
        (b"/%C3%A9", "/é"),
        (b"/%FF", "/\udcff"),
        (b"/%25252F", "/%252F"),
        (b"/a\\b", "/a\\b"),
        (b"/%5C", "/\\"),
        (b"/..a/b..", "/..a/b.."),
        (b"/a%2Fb", None),
        (b"/a%2fb", None),
        (b"/a%00", None),
        (b"/a\x00", None),
        (b"/a/..", None),
        (b"/../a", None),
        (b"/%2E%2E/a", None),
        (b"*", None),
        (b"", None),
    ],
)
def test_a_path_names_a_file_or_none(path: bytes, name: str | None) -> None:
    assert decode_path(path) == name


@given(st.binary(max_size=30))
def test_every_file_name_can_be_asked_for(name: bytes) -> None:
    path = b"/" + b"".join(b"%%%02x" % octet for octet in name)
    safe = b"\x00" not in name and b"/" not in name and name not in {b".", b".."}
    if safe:
        assert decode_path(path_of(path)) == "/" + name.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        (b"/a/b", b"/a/b"),
        (b"/%40adm/a", b"/@adm/a"),
        (b"/static%2Fa", b"/static/a"),
        (b"/a%2F..%2Fb", b"/b"),
        (b"/a/%2E%2E/b", b"/b"),
        (b"/%25", b"/%"),
    ],
)
def test_routes_judge_what_applications_see(path: bytes, seen: bytes) -> None:
    assert as_applications_see(path) == seen
