"""Which stored answers an unsafe request makes invalid. RFC 9111 §4.4."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields
from proxy.rules.invalidation import SAFE_METHODS, invalidated_targets

TARGET = (b"/a/b", b"c=d")


def invalidated(
    *lines: FieldLine,
    method: bytes = b"POST",
    status: int = 200,
    scheme: bytes = b"http",
    authority: bytes = b"example.com",
    target: tuple[bytes, bytes | None] = TARGET,
) -> list[tuple[bytes, bytes | None]]:
    return invalidated_targets(method, status, scheme, authority, target, Fields(lines))


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"PURR", b"get"])
@pytest.mark.parametrize("status", [200, 201, 204, 299, 301, 303, 399])
def test_a_change_invalidates_its_own_target(method: bytes, status: int) -> None:
    assert invalidated(method=method, status=status) == [TARGET]


@pytest.mark.parametrize("status", [101, 199, 400, 404, 412, 500, 599, 999])
def test_an_error_invalidates_nothing(status: int) -> None:
    assert invalidated((b"Location", b"/x"), status=status) == []


@pytest.mark.parametrize("method", sorted(SAFE_METHODS))
def test_a_safe_method_invalidates_nothing(method: bytes) -> None:
    assert invalidated((b"Location", b"/x"), method=method) == []


@pytest.mark.parametrize("name", [b"Location", b"Content-Location", b"LOCATION"])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"/x", (b"/x", None)),
        (b"/x?y=z", (b"/x", b"y=z")),
        (b"x", (b"/a/x", None)),
        (b"../x", (b"/x", None)),
        (b"?q", (b"/a/b", b"q")),
        (b"/x#part", (b"/x", None)),
        (b"http://example.com/x", (b"/x", None)),
        (b"HTTP://EXAMPLE.com:80/x", (b"/x", None)),
        (b"//example.com/x", (b"/x", None)),
        (b"http://example.com", (b"/", None)),
        # as the requests for it would spell it
        (b"/%7ex/%c3%a9", (b"/~x/%C3%A9", None)),
        (b"/\xc3\xa9", (b"/%C3%A9", None)),
        (b"/x/./y/../z", (b"/x/z", None)),
    ],
)
def test_what_the_answer_names_of_the_same_origin_is_invalid_too(
    name: bytes, value: bytes, named: tuple[bytes, bytes | None]
) -> None:
    assert invalidated((name, value)) == [TARGET, named]


@pytest.mark.parametrize(
    "value",
    [
        b"http://other.example/x",
        b"//other.example/x",
        b"https://example.com/x",
        b"http://example.com:8080/x",
        b"http://sub.example.com/x",
        b"http://user@example.com/x",
        b"http://example.com@other.example/x",
        b"ftp://example.com/x",
        b"mailto:a@example.com",
        b"http://[::1/x",
        b"http://exa mple.com/x",
        b"/x y",
        b"/%zz",
        b"/%00",
    ],
)
def test_what_is_of_another_origin_or_malformed_is_left_alone(value: bytes) -> None:
    assert invalidated((b"Location", value), (b"Content-Location", value)) == [TARGET]


@pytest.mark.parametrize("value", [b"", b"/a/b?c=d", b"b?c=d", b"#part"])
def test_a_target_that_is_named_again_comes_once(value: bytes) -> None:
    assert invalidated((b"Location", value)) == [TARGET]


@pytest.mark.parametrize(
    ("scheme", "authority", "value"),
    [
        (b"https", b"example.com:443", b"https://example.com/x"),
        (b"https", b"example.com", b"https://example.com:443/x"),
        (b"http", b"example.com:8080", b"http://example.com:8080/x"),
        (b"http", b"[::1]:8080", b"http://[::1]:8080/x"),
    ],
)
def test_the_port_is_part_of_the_origin(scheme: bytes, authority: bytes, value: bytes) -> None:
    found = invalidated((b"Location", value), scheme=scheme, authority=authority)
    assert found == [TARGET, (b"/x", None)]


def test_every_line_counts() -> None:
    lines = [(b"Location", b"/x"), (b"Location", b"/y"), (b"Content-Location", b"/z")]
    assert invalidated(*lines, target=(b"/", None)) == [
        (b"/", None),
        (b"/x", None),
        (b"/y", None),
        (b"/z", None),
    ]


def test_a_client_that_names_no_host_invalidates_its_own_target() -> None:
    lines = [(b"Location", b"http://example.com/x"), (b"Content-Location", b"/y")]
    assert invalidated(*lines, authority=b"") == [TARGET]


@given(st.binary(max_size=60))
def test_no_location_raises_or_leaves_the_origin(value: bytes) -> None:
    for path, _ in invalidated((b"Location", value)):
        assert path.startswith(b"/")
