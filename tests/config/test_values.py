"""Addresses, networks, patterns, names and fields, in the forms that people get wrong."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.values import (
    UNIX_PATH_BYTES,
    each,
    normalise_path,
    parse_address,
    parse_environment,
    parse_fields,
    parse_index,
    parse_network,
    parse_path_pattern,
    parse_route_host,
    parse_target_name,
    parse_try,
    parse_wsgi,
)

FOLDER = Path("/srv")


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("LOCALHOST:0", "localhost:0"),
        ("[::1]:80", "[::1]:80"),
        ("[0:0::1]:80", "[::1]:80"),
        ("my_service.internal:9000", "my_service.internal:9000"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:a.sock", "unix:/srv/a.sock"),
    ],
)
def test_an_address_is_a_host_and_a_port_or_a_socket(written: str, canonical: str) -> None:
    assert str(parse_address(written, FOLDER)) == canonical


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("http://127.0.0.1:80", "is a URL; write host:port"),
        ("127.0.0.1", 'has no port; write "127.0.0.1:8080"'),
        ("[::1]", 'has no port; write "[::1]:8080"'),
        ("a:http", '"http" in "a:http" is not a port (0 to 65535)'),
        ("a:65536", '"65536" in "a:65536" is not a port'),
        ("a:\u0661", "is not a port"),
        (":80", 'has no host; write "0.0.0.0:80" or "[::]:80"'),
        ("*:80", 'has no host; write "0.0.0.0:80"'),
        ("::1:80", 'needs brackets for IPv6; write "[::1]:80"'),
        ("[::g]:80", '"[::g]" in "[::g]:80" is not an IPv6 address'),
        ("127.0.0:80", "is not an IPv4 address"),
        ("a b:80", '"a b" in "a b:80" is not a host name'),
        ("-a:80", "is not a host name"),
        ("unix:", '"unix:" has no path'),
        ("unix:/" + "a" * UNIX_PATH_BYTES, f"may have {UNIX_PATH_BYTES} bytes"),
    ],
)
def test_what_is_not_an_address_is_refused_with_the_form_that_is(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_address(written, FOLDER)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("unix:", "unix:"),
    ],
)
def test_a_network_has_one_form(written: str, canonical: str) -> None:
    assert parse_network(written) == canonical


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("10.1.2.3/8", 'write "10.0.0.0/8"'),
        ("localhost", "is not a network"),
        ("", "not a network"),
    ],
)
def test_what_is_not_a_network_is_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_network(written)


@pytest.mark.parametrize(
    "pattern", ["/", "/*", "/a", "/a/", "/a/*", "/caf%C3%A9/*", "/a%2Fb", "/a;b=1"]
)
def test_a_path_pattern_is_exact_or_ends_with_a_star(pattern: str) -> None:
    assert parse_path_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("a/*", 'write "/a/*"'),
        ("", 'does not begin with "/"'),
        ("*", 'write "/*"'),
        ("/a*", "not a whole last segment"),
        ("/*/a", "not a whole last segment"),
        ("/*.png", "not a whole last segment"),
        ("/a?b=1", "has a query"),
        ("/a#b", "has a fragment"),
        ("/a/../b", "has dot segments"),
        ("/./*", "has dot segments"),
        ("/café/*", 'write "/caf%C3%A9/*"'),
        ("/caf%c3%a9", 'write "/caf%C3%A9"'),
        ("/%7Euser", 'write "/~user"'),
        ("/a b", 'write "/a%20b"'),
        ("/100%", 'write "/100%25"'),
    ],
)
def test_a_path_pattern_that_no_request_could_match_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_path_pattern(pattern)


@given(st.text())
def test_a_normalised_path_stays_as_it_is(text: str) -> None:
    try:
        once = normalise_path(text)
    except UnicodeEncodeError:
        return  # lone surrogates, which TOML does not have
    assert normalise_path(once) == once


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("Example.COM", "example.com"),
        ("*.example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[0::1]", "[::1]"),
    ],
)
def test_a_host_of_a_route_has_one_form(written: str, canonical: str) -> None:
    assert parse_route_host(written) == canonical


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("bücher.example", 'write "xn--bcher-kva.example"'),
        ("*.bücher.example", 'write "*.xn--bcher-kva.example"'),
        ("example.com:80", "has a port"),
        ("https://example.com", "is a URL"),
        ("www.*", "is not a host"),
        ("*", "is not a host"),
        ("", "is not a host"),
        ("a..b", "is not a host"),
        ("ü" * 80 + ".example", "is not ASCII; write the name in its ASCII form"),
    ],
)
def test_what_is_not_a_host_is_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_route_host(written)


@pytest.mark.parametrize("written", ["app:app", "backend.wsgi:app", "a.b_c:d.e", "größe:app"])
def test_a_wsgi_application_is_module_and_object(written: str) -> None:
    assert parse_wsgi(written) == written


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("backend/wsgi.py:app", 'write the module: "backend.wsgi:app"'),
        ("./wsgi.py", 'write the module: "wsgi:app"'),
        ("backend.wsgi", 'write "backend.wsgi:app"'),
        ("backend.wsgi:", 'is not "module:object"'),
        ("a:create_app()", 'is not "module:object"'),
        ("1a:b", 'is not "module:object"'),
    ],
)
def test_what_is_not_module_and_object_is_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_wsgi(written)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "a" * 64, "é"])
def test_a_name_that_could_not_be_a_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        parse_target_name(name)


@pytest.mark.parametrize("variables", [{"": "x"}, {"A=B": "x"}, {"A": "\0"}])
def test_an_environment_that_the_system_would_refuse_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"environment variable|NUL"):
        parse_environment(variables)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"X Y": "1"}, "'X Y' is not a field name"),
        ({"X:": "1"}, "is not a field name"),
        ({"X\n": "1"}, "is not a field name"),
        ({"Transfer-Encoding": "chunked"}, '"Transfer-Encoding" cannot be set here'),
        ({"content-length": "1"}, "proxyd writes it from the answer's body"),
        ({"Connection": "close"}, "cannot be set here"),
        ({"X-A": "1", "x-a": "2"}, '"x-a" and "X-A" are the same field'),
        ({"X": "a\r\nSet-Cookie: b=c"}, '"X": '),
        ({"X": "a\nb"}, "no line ends"),
        ({"X": " a"}, "no spaces around it"),
        ({"X": ""}, "is not a field value"),
        ({"X": "é"}, "printable ASCII"),
    ],
)
def test_a_field_that_could_break_an_answer_is_refused(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_fields(fields)


def test_ordinary_fields_are_kept_as_they_are_written() -> None:
    fields = {"X-Frame-Options": "DENY", "Content-Security-Policy": "default-src 'self'; a\tb"}
    assert parse_fields(fields) == fields


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a\0"])
def test_an_index_is_the_name_of_a_file(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a file"):
        parse_index(name)


@pytest.mark.parametrize("path", ["{path}", "{path}.html", "/index.html", "/a/{path}"])
def test_a_fallback_is_a_path_with_or_without_the_requested_one(path: str) -> None:
    assert parse_try(path) == path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("index.html", 'write "/index.html"'),
        ("/{uri}", "not {path}"),
        ("/../a", "leaves the route's folder"),
        ("{path}/../a", "leaves the route's folder"),
        ("/a\0", "leaves the route's folder"),
    ],
)
def test_a_fallback_outside_the_folder_is_refused(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_try(path)


def test_one_text_is_a_list_of_one() -> None:
    assert each(str.lower)("A") == ("a",)
    assert each(str.lower)(["A", "B"]) == ("a", "b")


@pytest.mark.parametrize(
    ("value", "said"),
    [(1, "must be a text"), (["a", 1], "must be a text"), ([], "is an empty list")],
)
def test_what_is_neither_a_text_nor_a_list_of_them_is_refused(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        each(str.lower)(value)
